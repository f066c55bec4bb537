package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	networklisters "k8s.io/client-go/listers/networking/v1"

	"testenv/policy"
)

const (
	cniFile       = "/etc/cni/net.d/10-testenv.conflist"
	routeProtocol = "77" // marks the routes that are ours
)

// node makes this machine's network what the API says.
type node struct {
	name       string
	podSubnets []string
	nodes      corelisters.NodeLister
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   networklisters.NetworkPolicyLister

	cni     string // as last written
	applied string // nftables script, as last run
}

func (n *node) apply() error {
	all, err := n.nodes.List(labels.Everything())
	if err != nil {
		return err
	}
	var errs []error
	routes := map[string]string{}
	for _, other := range all {
		switch {
		case other.Spec.PodCIDR == "":
		case other.Name == n.name:
			errs = append(errs, n.writeCNI(other.Spec.PodCIDR))
		default:
			if address := internalAddress(other); address != "" {
				routes[other.Spec.PodCIDR] = address
			}
		}
	}
	return errors.Join(append(errs, setRoutes(routes), n.filter())...)
}

// address is this node's own, empty until it is known.
func (n *node) address() string {
	self, err := n.nodes.Get(n.name)
	if err != nil {
		return ""
	}
	return internalAddress(self)
}

func internalAddress(node *core.Node) string {
	for _, a := range node.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); a.Type == core.NodeInternalIP && err == nil && ip.Is4() {
			return a.Address
		}
	}
	return ""
}

func (n *node) writeCNI(subnet string) error {
	type object = map[string]any
	text, err := json.MarshalIndent(object{
		"cniVersion": "0.3.1",
		"name":       "testenv",
		"plugins": []object{
			{"type": "ptp", "mtu": 1500, "ipMasq": false, "ipam": object{
				"type": "host-local", "dataDir": "/run/cni-ipam-state",
				"ranges": [][]object{{{"subnet": subnet}}}, "routes": []object{{"dst": "0.0.0.0/0"}},
			}},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	}, "", "  ")
	if err != nil || string(text) == n.cni {
		return err
	}
	if err := os.WriteFile(cniFile+".tmp", text, 0o600); err != nil {
		return err
	}
	if err := os.Rename(cniFile+".tmp", cniFile); err != nil {
		return err
	}
	n.cni = string(text)
	log.Printf("wrote %s for %s", cniFile, subnet)
	return nil
}

// setRoutes takes a map of pod subnet to node address.
func setRoutes(want map[string]string) error {
	out, err := exec.Command("ip", "-4", "-json", "route", "show", "proto", routeProtocol).Output()
	if err != nil {
		return fmt.Errorf("ip route show: %w", err)
	}
	var have []struct{ Dst, Gateway string }
	if len(strings.TrimSpace(string(out))) > 0 {
		if err := json.Unmarshal(out, &have); err != nil {
			return fmt.Errorf("ip route show: %w", err)
		}
	}
	var errs []error
	for _, route := range have {
		switch want[route.Dst] {
		case route.Gateway:
			delete(want, route.Dst)
		case "":
			errs = append(errs, command("", "ip", "route", "del", route.Dst, "proto", routeProtocol))
		}
	}
	for subnet, gateway := range want {
		errs = append(errs, command("", "ip", "route", "replace", subnet, "via", gateway, "proto", routeProtocol))
		log.Printf("route to %s via %s", subnet, gateway)
	}
	return errors.Join(errs...)
}

const masquerade = `table ip testenv_nat {}
delete table ip testenv_nat
table ip testenv_nat {
  chain postrouting {
    type nat hook postrouting priority srcnat + 5; policy accept;
    ip saddr { %[1]s } ip daddr != { %[1]s, 127.0.0.0/8, 224.0.0.0/4 } fib daddr type != local masquerade
  }
}
`

func (n *node) filter() error {
	pods, err := n.pods.List(labels.Everything())
	if err != nil {
		return err
	}
	namespaces, err := n.namespaces.List(labels.Everything())
	if err != nil {
		return err
	}
	policies, err := n.policies.List(labels.Everything())
	if err != nil {
		return err
	}
	rules, err := policy.Render(n.name, policy.Cluster{Pods: pods, Namespaces: namespaces, Policies: policies})
	if err != nil {
		return err
	}
	script := fmt.Sprintf(masquerade, strings.Join(n.podSubnets, ", ")) + rules
	if script == n.applied {
		return nil
	}
	if err := command(script, "nft", "-f", "-"); err != nil {
		return err
	}
	n.applied = script
	return nil
}

func command(stdin string, name string, args ...string) error {
	c := exec.Command(name, args...)
	c.Stdin = strings.NewReader(stdin)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
