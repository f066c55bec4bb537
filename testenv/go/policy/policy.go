// Package policy renders networking.k8s.io/v1 NetworkPolicies as one nftables table
// for the pods of one node. It does no I/O. IPv4 only.
//
// A pod is isolated in a direction as soon as one policy of that direction selects
// it; then only what some rule allows may pass. Traffic between a pod and its own node
// is always allowed, as the API documents; it never meets the forward hook.
package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Table is the name of the nftables table.
const Table = "testenv_policy"

// Cluster is what policies are judged against.
type Cluster struct {
	Pods       []*core.Pod
	Namespaces []*core.Namespace
	Policies   []*networking.NetworkPolicy
}

// Render returns a script for `nft -f` that replaces the whole table at once.
func Render(node string, cluster Cluster) (string, error) {
	view := view{namespaces: map[string]labels.Set{}}
	for _, n := range cluster.Namespaces {
		view.namespaces[n.Name] = n.Labels
	}
	for _, p := range cluster.Pods {
		if address := address(p); address != "" {
			view.pods = append(view.pods, pod{p, address})
		}
	}
	ingress, egress := rules{}, rules{}
	for _, policy := range cluster.Policies {
		selector, err := meta.LabelSelectorAsSelector(&policy.Spec.PodSelector)
		if err != nil {
			return "", fmt.Errorf("%s/%s: %w", policy.Namespace, policy.Name, err)
		}
		in, out := directions(policy)
		for _, p := range view.pods {
			if p.Namespace != policy.Namespace || p.Spec.NodeName != node || !selector.Matches(labels.Set(p.Labels)) {
				continue
			}
			if in {
				ingress.isolate(p.address)
				for _, r := range policy.Spec.Ingress {
					ingress.allow(p.address, view.ingress(p, r)...)
				}
			}
			if out {
				egress.isolate(p.address)
				for _, r := range policy.Spec.Egress {
					egress.allow(p.address, view.egress(policy.Namespace, r)...)
				}
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "table ip %[1]s {}\ndelete table ip %[1]s\ntable ip %[1]s {\n", Table)
	egress.writeChains(&b, "egress", "daddr")
	ingress.writeChains(&b, "ingress", "saddr")
	b.WriteString("  chain forward {\n    type filter hook forward priority filter; policy accept;\n    ct state established,related accept\n")
	egress.writeDispatch(&b, "egress", "saddr")
	ingress.writeDispatch(&b, "ingress", "daddr")
	b.WriteString("  }\n}\n")
	return b.String(), nil
}

// rules holds, for each isolated pod address of one direction, what is allowed.
type rules map[string][]string

func (r rules) isolate(address string) { r[address] = r[address] }

func (r rules) allow(address string, matches ...string) { r[address] = append(r[address], matches...) }

func (r rules) addresses() []string {
	all := make([]string, 0, len(r))
	for address := range r {
		all = append(all, address)
	}
	slices.Sort(all)
	return all
}

func chain(direction, address string) string {
	return direction + "_" + strings.ReplaceAll(address, ".", "_")
}

func (r rules) writeChains(b *strings.Builder, direction, peer string) {
	for _, address := range r.addresses() {
		// a pod may reach itself, which it also does through a Service
		fmt.Fprintf(b, "  chain %s {\n    ip %s %s return\n", chain(direction, address), peer, address)
		matches := slices.Clone(r[address])
		slices.Sort(matches)
		for _, match := range slices.Compact(matches) {
			fmt.Fprintf(b, "    %s\n", strings.TrimSpace(match+" return"))
		}
		b.WriteString("    counter drop\n  }\n")
	}
}

func (r rules) writeDispatch(b *strings.Builder, direction, own string) {
	var targets []string
	for _, address := range r.addresses() {
		targets = append(targets, address+" : jump "+chain(direction, address))
	}
	if len(targets) > 0 {
		fmt.Fprintf(b, "    ip %s vmap { %s }\n", own, strings.Join(targets, ", "))
	}
}

// pod is a pod that has an address of its own, and that address.
type pod struct {
	*core.Pod
	address string
}

func address(p *core.Pod) string {
	if p.Spec.HostNetwork || p.Status.Phase == core.PodSucceeded || p.Status.Phase == core.PodFailed {
		return ""
	}
	for _, ip := range append([]core.PodIP{{IP: p.Status.PodIP}}, p.Status.PodIPs...) {
		if a, err := netip.ParseAddr(ip.IP); err == nil && a.Is4() {
			return a.String()
		}
	}
	return ""
}

// directions follows the API's default: ingress always, egress when there are egress rules.
func directions(p *networking.NetworkPolicy) (ingress, egress bool) {
	if len(p.Spec.PolicyTypes) == 0 {
		return true, len(p.Spec.Egress) > 0
	}
	return slices.Contains(p.Spec.PolicyTypes, networking.PolicyTypeIngress),
		slices.Contains(p.Spec.PolicyTypes, networking.PolicyTypeEgress)
}

type view struct {
	pods       []pod
	namespaces map[string]labels.Set
}

// ingress returns what one rule lets in; the ports are those of the pod it protects.
func (v view) ingress(target pod, rule networking.NetworkPolicyIngressRule) []string {
	ports := portMatches(rule.Ports, target.Pod)
	if len(rule.From) == 0 {
		return ports
	}
	var who []string
	for _, peer := range rule.From {
		if peer.IPBlock != nil {
			who = append(who, blockMatch("saddr", *peer.IPBlock)...)
			continue
		}
		for _, p := range v.selected(target.Namespace, peer) {
			who = append(who, "ip saddr "+p.address)
		}
	}
	return product(who, ports)
}

// egress returns what one rule lets out; a named port is looked up in each peer.
func (v view) egress(namespace string, rule networking.NetworkPolicyEgressRule) []string {
	var out []string
	if len(rule.To) == 0 {
		out = portMatches(rule.Ports, nil)
		for _, p := range v.pods {
			out = append(out, product([]string{"ip daddr " + p.address}, namedPorts(rule.Ports, p.Pod))...)
		}
		return out
	}
	for _, peer := range rule.To {
		if peer.IPBlock != nil {
			out = append(out, product(blockMatch("daddr", *peer.IPBlock), portMatches(rule.Ports, nil))...)
			continue
		}
		for _, p := range v.selected(namespace, peer) {
			out = append(out, product([]string{"ip daddr " + p.address}, portMatches(rule.Ports, p.Pod))...)
		}
	}
	return out
}

func (v view) selected(namespace string, peer networking.NetworkPolicyPeer) []pod {
	var found []pod
	for _, p := range v.pods {
		if peer.NamespaceSelector == nil && p.Namespace != namespace {
			continue
		}
		if peer.NamespaceSelector != nil && !matches(peer.NamespaceSelector, v.namespaces[p.Namespace]) {
			continue
		}
		if peer.PodSelector == nil || matches(peer.PodSelector, p.Labels) {
			found = append(found, p)
		}
	}
	return found
}

// matches takes a selector that cannot be read for one that selects nothing.
func matches(selector *meta.LabelSelector, set labels.Set) bool {
	s, err := meta.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(set)
}

func blockMatch(side string, block networking.IPBlock) []string {
	prefix, err := netip.ParsePrefix(block.CIDR)
	if err != nil || !prefix.Addr().Is4() {
		return nil
	}
	match := fmt.Sprintf("ip %s %s", side, prefix.Masked())
	for _, text := range block.Except {
		if except, err := netip.ParsePrefix(text); err == nil && except.Addr().Is4() {
			match += fmt.Sprintf(" ip %s != %s", side, except.Masked())
		}
	}
	return []string{match}
}

// product combines every peer with every port.
func product(who, ports []string) []string {
	var out []string
	for _, w := range who {
		for _, p := range ports {
			out = append(out, strings.TrimSpace(w+" "+p))
		}
	}
	return out
}

// portMatches returns one match a port, and one that matches all when none is named.
// Named ports are those of the owner; without an owner they match nothing.
func portMatches(ports []networking.NetworkPolicyPort, owner *core.Pod) []string {
	if len(ports) == 0 {
		return []string{""}
	}
	var out []string
	for _, p := range ports {
		switch {
		case p.Port == nil:
			out = append(out, "meta l4proto "+protocol(p.Protocol))
		case p.Port.Type == intstr.String:
		case p.EndPort != nil:
			out = append(out, fmt.Sprintf("%s dport %d-%d", protocol(p.Protocol), p.Port.IntVal, *p.EndPort))
		default:
			out = append(out, fmt.Sprintf("%s dport %d", protocol(p.Protocol), p.Port.IntVal))
		}
	}
	if owner != nil {
		out = append(out, namedPorts(ports, owner)...)
	}
	return out
}

func namedPorts(ports []networking.NetworkPolicyPort, owner *core.Pod) []string {
	var out []string
	for _, wanted := range ports {
		if wanted.Port == nil || wanted.Port.Type != intstr.String {
			continue
		}
		for _, container := range owner.Spec.Containers {
			for _, has := range container.Ports {
				if has.Name == wanted.Port.StrVal && protocol(&has.Protocol) == protocol(wanted.Protocol) {
					out = append(out, fmt.Sprintf("%s dport %d", protocol(&has.Protocol), has.ContainerPort))
				}
			}
		}
	}
	return out
}

func protocol(p *core.Protocol) string {
	if p == nil || *p == "" {
		return "tcp"
	}
	return strings.ToLower(string(*p))
}
