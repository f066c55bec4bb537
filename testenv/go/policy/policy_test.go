package policy

import (
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func testPod(namespace, name, node, ip string) *core.Pod {
	return &core.Pod{
		ObjectMeta: meta.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec: core.PodSpec{NodeName: node, Containers: []core.Container{{
			Ports: []core.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
		Status: core.PodStatus{Phase: core.PodRunning, PodIP: ip},
	}
}

// render puts one policy (YAML of its spec) on namespace `a` of a small cluster, seen from node n1.
func render(t *testing.T, spec string) string {
	t.Helper()
	finished := testPod("a", "finished", "n1", "10.0.1.9")
	finished.Status.Phase = core.PodSucceeded
	host := testPod("a", "host", "n1", "192.168.0.1")
	host.Spec.HostNetwork = true
	cluster := Cluster{
		Pods: []*core.Pod{
			testPod("a", "web", "n1", "10.0.1.1"), testPod("a", "client", "n2", "10.0.2.1"),
			testPod("b", "other", "n2", "10.0.2.2"), finished, host,
		},
		Namespaces: []*core.Namespace{
			{ObjectMeta: meta.ObjectMeta{Name: "a", Labels: map[string]string{"kubernetes.io/metadata.name": "a"}}},
			{ObjectMeta: meta.ObjectMeta{Name: "b", Labels: map[string]string{"kubernetes.io/metadata.name": "b"}}},
		},
	}
	if spec != "" {
		policy := &networking.NetworkPolicy{ObjectMeta: meta.ObjectMeta{Namespace: "a", Name: "p"}}
		if err := yaml.UnmarshalStrict([]byte(spec), &policy.Spec); err != nil {
			t.Fatal(err)
		}
		cluster.Policies = append(cluster.Policies, policy)
	}
	out, err := Render("n1", cluster)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// allowed returns what a chain lets pass, apart from the pod itself.
func allowed(t *testing.T, table, chain string) []string {
	t.Helper()
	_, rest, ok := strings.Cut(table, "  chain "+chain+" {\n")
	if !ok {
		t.Fatalf("no chain %s in\n%s", chain, table)
	}
	body, _, _ := strings.Cut(rest, "  }\n")
	if !strings.HasSuffix(body, "    counter drop\n") {
		t.Errorf("chain %s does not end in a drop:\n%s", chain, body)
	}
	var out []string
	for _, line := range strings.Split(strings.TrimSpace(body), "\n")[1:] {
		if match, ok := strings.CutSuffix(strings.TrimSpace(line), "return"); ok {
			out = append(out, strings.TrimSpace(match))
		}
	}
	return out
}

func TestRules(t *testing.T) {
	for name, test := range map[string]struct {
		spec, chain string
		want        []string
	}{
		"default deny":          {`{podSelector: {}}`, "ingress_10_0_1_1", nil},
		"default deny egress":   {`{podSelector: {}, policyTypes: [Egress]}`, "egress_10_0_1_1", nil},
		"allow all":             {`{podSelector: {}, ingress: [{}]}`, "ingress_10_0_1_1", []string{""}},
		"a pod, by label":       {`{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}`, "ingress_10_0_1_1", []string{"ip saddr 10.0.2.1"}},
		"a peer that is no one": {`{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: x}}}]}]}`, "ingress_10_0_1_1", nil},
		"pods of one's own namespace only": {`{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}`, "ingress_10_0_1_1",
			[]string{"ip saddr 10.0.1.1", "ip saddr 10.0.2.1"}},
		"another namespace": {`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: b}}}]}]}`,
			"ingress_10_0_1_1", []string{"ip saddr 10.0.2.2"}},
		"both selectors must match": {`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: b}}, podSelector: {matchLabels: {app: client}}}]}]}`,
			"ingress_10_0_1_1", nil},
		"a named port is the protected pod's": {`{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: http}]}]}`,
			"ingress_10_0_1_1", []string{"ip saddr 10.0.2.1 tcp dport 8080"}},
		"a named port nobody has":          {`{podSelector: {}, ingress: [{ports: [{port: metrics}]}]}`, "ingress_10_0_1_1", nil},
		"a named port of another protocol": {`{podSelector: {}, ingress: [{ports: [{port: http, protocol: UDP}]}]}`, "ingress_10_0_1_1", nil},
		"egress to a named port is the peer's": {`{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: http}]}]}`,
			"egress_10_0_1_1", []string{"ip daddr 10.0.2.1 tcp dport 8080"}},
		"egress to anybody's named port": {`{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}`, "egress_10_0_1_1",
			[]string{"ip daddr 10.0.1.1 tcp dport 8080", "ip daddr 10.0.2.1 tcp dport 8080", "ip daddr 10.0.2.2 tcp dport 8080"}},
		"a block with exceptions": {`{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 203.0.113.7/24, except: [203.0.113.0/28]}}], ports: [{port: 443}]}]}`,
			"egress_10_0_1_1", []string{"ip daddr 203.0.113.0/24 ip daddr != 203.0.113.0/28 tcp dport 443"}},
		"an IPv6 block": {`{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: "2001:db8::/32"}}]}]}`, "egress_10_0_1_1", nil},
		"a port range and a bare protocol": {`{podSelector: {}, ingress: [{ports: [{port: 1000, endPort: 2000}, {protocol: UDP}]}]}`,
			"ingress_10_0_1_1", []string{"meta l4proto udp", "tcp dport 1000-2000"}},
	} {
		t.Run(name, func(t *testing.T) {
			table := render(t, test.spec)
			if got := allowed(t, table, test.chain); strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("got %q, want %q in\n%s", got, test.want, table)
			}
		})
	}
}

func TestOnlyIsolatedPodsOfThisNodeGetChains(t *testing.T) {
	if table := render(t, ""); strings.Contains(table, "vmap") {
		t.Errorf("no policy, yet somebody is isolated:\n%s", table)
	}
	table := render(t, `{podSelector: {}, policyTypes: [Ingress, Egress]}`)
	for _, stranger := range []string{"10_0_2_1", "10_0_2_2", "10_0_1_9", "192_168_0_1"} {
		if strings.Contains(table, stranger) {
			t.Errorf("%s is not a pod of this namespace and node with an address of its own:\n%s", stranger, table)
		}
	}
	for _, want := range []string{"ip saddr vmap { 10.0.1.1 : jump egress_10_0_1_1 }", "ip daddr vmap { 10.0.1.1 : jump ingress_10_0_1_1 }"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	if table := render(t, `{podSelector: {matchLabels: {app: nobody}}}`); strings.Contains(table, "vmap") {
		t.Errorf("the policy selects nobody:\n%s", table)
	}
}

func TestPoliciesAddUp(t *testing.T) {
	web := testPod("a", "web", "n1", "10.0.1.1")
	var cluster Cluster
	cluster.Pods = []*core.Pod{web}
	for _, spec := range []string{`{podSelector: {}}`, `{podSelector: {}, ingress: [{ports: [{port: 80}]}]}`, `{podSelector: {}, ingress: [{ports: [{port: 81}]}]}`} {
		policy := &networking.NetworkPolicy{ObjectMeta: meta.ObjectMeta{Namespace: "a"}}
		if err := yaml.UnmarshalStrict([]byte(spec), &policy.Spec); err != nil {
			t.Fatal(err)
		}
		cluster.Policies = append(cluster.Policies, policy)
	}
	table, err := Render("n1", cluster)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(allowed(t, table, "ingress_10_0_1_1"), "; "); got != "tcp dport 80; tcp dport 81" {
		t.Errorf("got %q", got)
	}
}
