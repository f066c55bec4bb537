package main

import (
	"strings"
	"testing"
)

const manifest = `apiVersion: v1
kind: Pod
metadata: {name: kube-apiserver}
spec:
  containers:
  - name: kube-apiserver
    command:
    - kube-apiserver
    - --audit-log-path=/var/log/audit.log
    - --profiling=false
    - --secure-port=6443
`

const configuration = `apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
apiServer:
  extraArgs:
  - {name: audit-log-path, value: /var/log/audit.log}
  - {name: runtime-config, value: ""}
etcd:
  local:
    dataDir: /var/lib/etcd
scheduler: {}
`

const etcdManifest = `apiVersion: v1
kind: Pod
metadata: {name: etcd}
spec:
  containers:
  - name: etcd
    command:
    - etcd
    - --client-cert-auth=true
    - --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.11:2379
`

func TestChange(t *testing.T) {
	for name, test := range map[string]struct {
		text, component string
		edits           []string
		want, unwanted  []string
	}{
		"a manifest": {manifest, "kube-apiserver", []string{"profiling=true", "audit-*"},
			[]string{"- kube-apiserver\n    - --profiling=true\n    - --secure-port=6443"}, []string{"audit"}},
		"a configuration": {configuration, "kube-apiserver", []string{"profiling=true", "audit-*"},
			[]string{"name: profiling\n    value: \"true\"", "name: runtime-config\n    value: \"\""}, []string{"audit"}},
		"an empty section": {configuration, "kube-scheduler", []string{"profiling=true"},
			[]string{"scheduler:\n  extraArgs:\n  - name: profiling"}, nil},
		"a missing section": {configuration, "kube-controller-manager", []string{"profiling=true"},
			[]string{"controllerManager:\n  extraArgs:\n  - name: profiling"}, nil},
		"etcd's manifest": {etcdManifest, "etcd", []string{"client-cert-auth=false", "auto-tls=true"},
			[]string{"- etcd\n    - --client-cert-auth=false\n    - --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.11:2379\n    - --auto-tls=true"}, nil},
		"etcd's section": {configuration, "etcd", []string{"auto-tls=true"},
			[]string{"etcd:\n  local:\n    dataDir: /var/lib/etcd\n    extraArgs:\n    - name: auto-tls\n      value: \"true\""}, nil},
		"etcd's missing section": {"kind: ClusterConfiguration\n", "etcd", []string{"auto-tls=true"},
			[]string{"etcd:\n  local:\n    extraArgs:\n    - name: auto-tls"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := change([]byte(test.text), test.component, test.edits)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range test.want {
				if !strings.Contains(string(out), s) {
					t.Errorf("no %q in\n%s", s, out)
				}
			}
			for _, s := range test.unwanted {
				if strings.Contains(string(out), s) {
					t.Errorf("%q in\n%s", s, out)
				}
			}
			if again, err := change(out, test.component, test.edits); err != nil || again != nil {
				t.Errorf("a second time: %v\n%s", err, again)
			}
		})
	}
}

func TestChangeRefusesWhatItDoesNotKnow(t *testing.T) {
	for name, text := range map[string]string{
		"another kind":       "kind: Service",
		"no such container":  "kind: Pod",
		"extraArgs as a map": "kind: ClusterConfiguration\napiServer: {extraArgs: {profiling: 'true'}}",
		"not YAML":           "{",
	} {
		if _, err := change([]byte(text), "kube-apiserver", []string{"profiling=true"}); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	if _, err := change([]byte(manifest), "kubelet", []string{"a=b"}); err == nil {
		t.Error("an unknown component: want an error")
	}
	external := "kind: ClusterConfiguration\netcd: {external: {endpoints: [https://10.0.0.9:2379]}}"
	if _, err := change([]byte(external), "etcd", []string{"a=b"}); err == nil {
		t.Error("an external etcd: want an error")
	}
}
