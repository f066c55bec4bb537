package main

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// fake answers as a control-plane node and a worker do.
func fake(lookSays, pods string) runner {
	return func(_ context.Context, node, input string, command ...string) ([]byte, error) {
		words := strings.Join(command, " ")
		switch {
		case input == look:
			return []byte(lookSays), nil
		case strings.Contains(words, "/configz"):
			return []byte(goodKubelet), nil
		case strings.Contains(words, "get pods"):
			return []byte(pods), nil
		case command[0] == "stat":
			group := strings.Split(command[3], "\t")[1]
			return []byte("file\t" + group + "\t640\troot:root\t-\n"), nil
		}
		return nil, errors.New("not expected: " + words)
	}
}

const kubeletWords = "kubelet\t/usr/bin/kubelet\nkubelet\t--config=/var/lib/kubelet/config.yaml\nkubelet\t--kubeconfig\nkubelet\t/etc/kubernetes/kubelet.conf\n"

func TestANodesFilesBecomeFacts(t *testing.T) {
	says := "file\tpki\t755\troot:root\t/etc/kubernetes/pki\nfile\tkey\t600\troot:root\t/a b.key\nfile\tkey\t644\tops:ops\t/c.key\n" + kubeletWords
	s, err := collectNode(context.Background(), fake(says, ""), "n", "n", true)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]any{
		"kubePKIKeyFilePermissions":                    {600, 644},
		"kubePKIDirectoryFileOwnership":                {"root:root"},
		"kubeletConfFilePermissions":                   {640},
		"kubeletConfigYamlConfigurationFilePermission": {640},
		"certificateAuthoritiesFilePermissions":        {640},
	} {
		if !reflect.DeepEqual(s.facts[name], any(want)) {
			t.Errorf("%s: %v", name, s.facts[name])
		}
	}
	// what is not there is not a fact
	for _, name := range []string{"kubeAPIServerSpecFilePermission", "kubeconfigFileExistsPermissions"} {
		if values, ok := s.facts[name]; ok {
			t.Errorf("%s: %v", name, values)
		}
	}
}

func TestWhatIsNotUnderstoodIsAnError(t *testing.T) {
	for _, says := range []string{
		"", "nonsense\n" + kubeletWords, "file\tpki\trwx\troot:root\t/x\n" + kubeletWords, "file\tunknown\t600\troot:root\t/x\n" + kubeletWords,
	} {
		if _, err := collectNode(context.Background(), fake(says, ""), "n", "n", true); err == nil {
			t.Errorf("no error for %q", says)
		}
	}
	for _, configz := range []string{"", "{}", `{"kubeletconfig": {}}`, strings.Replace(goodKubelet, "4h0m0s", "long", 1)} {
		if _, _, err := kubeletFacts([]byte(configz), nil); err == nil {
			t.Errorf("no error for %q", configz)
		}
	}
}

const apiserverPod = `{"metadata": {"name": "kube-apiserver-NODE", "annotations": {"kubernetes.io/config.mirror": "x"}},
	"spec": {"nodeName": "NODE", "containers": [{"command": ["kube-apiserver"]}]}, "status": {"phase": "PHASE"}}`

func listed(pods ...string) []byte { return []byte(`{"items": [` + strings.Join(pods, ",") + `]}`) }

func TestOnlyStaticPodsOfAllControlPlanesCount(t *testing.T) {
	on := func(node, phase string) string {
		return strings.NewReplacer("NODE", node, "PHASE", phase).Replace(apiserverPod)
	}
	impostor := strings.Replace(on("a", "Running"), "kubernetes.io/config.mirror", "other", 1)
	subjects, err := readPods(listed(on("a", "Running"), on("b", "Running"), impostor), []string{"a", "b"})
	if err != nil || len(subjects) != 2 || subjects[0].program != "kube-apiserver" {
		t.Errorf("%v %v", subjects, err)
	}
	for name, list := range map[string][]byte{
		"one is missing":     listed(on("a", "Running")),
		"one is not running": listed(on("a", "Running"), on("b", "Pending")),
		"only an impostor":   listed(impostor),
	} {
		if _, err := readPods(list, []string{"a", "b"}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAControlPlaneThatIsBeingReplacedIsWaitedFor(t *testing.T) {
	text := strings.ReplaceAll(apiserverPod, "NODE", "n")
	asked := 0
	pending := string(listed(strings.Replace(text, "PHASE", "Pending", 1)))
	running := string(listed(strings.Replace(text, "PHASE", "Running", 1)))
	run := func(ctx context.Context, node, input string, command ...string) ([]byte, error) {
		if strings.Contains(strings.Join(command, " "), "get pods") {
			if asked++; asked < 3 {
				return []byte(pending), nil
			}
		}
		return fake(kubeletWords, running)(ctx, node, input, command...)
	}
	subjects, err := collect(context.Background(), run, []string{"n"}, []string{"w"}, 10*time.Second)
	if err != nil || asked != 3 || len(subjects) != 3 || !subjects[1].master || subjects[2].master {
		t.Errorf("%v after %d, %v", subjects, asked, err)
	}
	if _, err := collect(context.Background(), fake(kubeletWords, pending), []string{"n"}, nil, time.Millisecond); !errors.Is(err, errNotYet) {
		t.Errorf("%v", err)
	}
}

func TestTheCommandLine(t *testing.T) {
	o, err := readOrder([]string{"--json", "--scored", "a", "b", "--", "w"})
	if err != nil || !o.json || !o.scored || !reflect.DeepEqual(o.masters, []string{"a", "b"}) || !reflect.DeepEqual(o.workers, []string{"w"}) {
		t.Errorf("%+v %v", o, err)
	}
	for _, words := range [][]string{nil, {"--"}, {"--other", "a"}, {"--json"}} {
		if _, err := readOrder(words); err == nil {
			t.Errorf("no error for %v", words)
		}
	}
}
