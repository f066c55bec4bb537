package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// runner runs a command as root on a node and returns its standard output.
type runner func(ctx context.Context, node, input string, command ...string) ([]byte, error)

func dockerExec(ctx context.Context, node, input string, command ...string) ([]byte, error) {
	run := exec.CommandContext(ctx, "docker", append([]string{"exec", "-i", node}, command...)...)
	var out, said bytes.Buffer
	run.Stdin, run.Stdout, run.Stderr = strings.NewReader(input), &out, &said
	if err := run.Run(); err != nil {
		return nil, fmt.Errorf("%s: %s: %w: %s", node, command[0], err, strings.TrimSpace(said.String()))
	}
	return out.Bytes(), nil
}

var kubectl = []string{"kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"}

// fileFacts are the names under which the rules know modes and owners of the files of a group.
var fileFacts = map[string]struct{ mode, owner string }{
	"apiserver":  {"kubeAPIServerSpecFilePermission", "kubeAPIServerSpecFileOwnership"},
	"manager":    {"kubeControllerManagerSpecFilePermission", "kubeControllerManagerSpecFileOwnership"},
	"scheduler":  {"kubeSchedulerSpecFilePermission", "kubeSchedulerSpecFileOwnership"},
	"etcd":       {"kubeEtcdSpecFilePermission", "kubeEtcdSpecFileOwnership"},
	"cni":        {"containerNetworkInterfaceFilePermissions", "containerNetworkInterfaceFileOwnership"},
	"data":       {"etcdDataDirectoryPermissions", "etcdDataDirectoryOwnership"},
	"admin":      {"adminConfFilePermissions", "adminConfFileOwnership"},
	"schedconf":  {"schedulerConfFilePermissions", "schedulerConfFileOwnership"},
	"cmconf":     {"controllerManagerConfFilePermissions", "controllerManagerConfFileOwnership"},
	"pki":        {"", "kubePKIDirectoryFileOwnership"},
	"key":        {"kubePKIKeyFilePermissions", ""},
	"crt":        {"kubernetesPKICertificateFilePermissions", ""},
	"service":    {"kubeletServiceFilePermissions", "kubeletServiceFileOwnership"},
	"kubeconfig": {"kubeletConfFilePermissions", "kubeletConfFileOwnership"},
	"config":     {"kubeletConfigYamlConfigurationFilePermission", "kubeletConfigYamlConfigurationFileOwnership"},
	"ca":         {"certificateAuthoritiesFilePermissions", "certificateAuthoritiesFileOwnership"},
	"proxy":      {"kubeconfigFileExistsPermissions", "kubeconfigFileExistsOwnership"},
}

// look prints one line a file (`file GROUP MODE OWNER PATH`) and one a word of a command line
// (`kubelet WORD`, `proxy-pid PID`, `proxy WORD`). The files are those of kubeadm. What a file is not there
// is not said, and a rule about it is then skipped.
const look = `
set -u
files() {
  group=$1
  shift
  for file; do
    if [ -e "$file" ]; then stat -L -c "file	$group	%a	%U:%G	%n" -- "$file" || exit 1; fi
  done
}
files apiserver /etc/kubernetes/manifests/kube-apiserver.yaml
files manager /etc/kubernetes/manifests/kube-controller-manager.yaml
files scheduler /etc/kubernetes/manifests/kube-scheduler.yaml
files etcd /etc/kubernetes/manifests/etcd.yaml
files cni /etc/cni/net.d/*
files data /var/lib/etcd
files admin /etc/kubernetes/admin.conf /etc/kubernetes/super-admin.conf
files schedconf /etc/kubernetes/scheduler.conf
files cmconf /etc/kubernetes/controller-manager.conf
files service /etc/systemd/system/kubelet.service.d/10-kubeadm.conf /usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf
tree() {
  group=$1
  shift
  find /etc/kubernetes/pki "$@" -exec stat -L -c "file	$group	%a	%U:%G	%n" -- {} + || exit 1
}
tree pki
tree key -name '*.key'
tree crt -name '*.crt'
words() { tr '\0' '\n' < "/proc/$2/cmdline" | sed "s/^/$1	/"; }
pid=$(pgrep -xo kubelet) || { echo "no kubelet runs: wait until the node is healthy" >&2; exit 1; }
words kubelet "$pid"
if pid=$(pgrep -xo kube-proxy); then
  printf 'proxy-pid	%s\n' "$pid"
  words proxy "$pid"
fi
`

// nodeLook is what look said.
type nodeLook struct {
	files    []fileSeen
	kubelet  []string
	proxy    []string
	proxyPID string
}

type fileSeen struct {
	group, owner string
	mode         int // the octal digits read as a decimal number, as the rules compare them
}

func readLook(text string) (*nodeLook, error) {
	seen := &nodeLook{}
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		cells := strings.SplitN(line, "\t", 5)
		switch {
		case cells[0] == "file" && len(cells) == 5:
			mode, err := strconv.Atoi(cells[2])
			if err != nil || fileFacts[cells[1]] == (struct{ mode, owner string }{}) {
				return nil, fmt.Errorf("not understood: %q", line)
			}
			seen.files = append(seen.files, fileSeen{cells[1], cells[3], mode})
		case cells[0] == "kubelet" && len(cells) == 2:
			seen.kubelet = append(seen.kubelet, cells[1])
		case cells[0] == "proxy" && len(cells) == 2:
			seen.proxy = append(seen.proxy, cells[1])
		case cells[0] == "proxy-pid" && len(cells) == 2:
			seen.proxyPID = cells[1]
		default:
			return nil, fmt.Errorf("not understood: %q", line)
		}
	}
	if len(seen.kubelet) == 0 {
		return nil, errors.New("the kubelet's command line is empty")
	}
	return seen, nil
}

// flag returns the last value of a flag of a command line.
func flag(words []string, name string) (value string, found bool) {
	for i, word := range words {
		if after, ok := strings.CutPrefix(word, "--"+name+"="); ok {
			value, found = after, true
		} else if word == "--"+name && i+1 < len(words) {
			value, found = words[i+1], true
		}
	}
	return value, found
}

// collectNode gathers what the rules look at on one node. api is a node where kubectl works.
func collectNode(ctx context.Context, run runner, node, api string, master bool) (subject, error) {
	none := subject{}
	text, err := run(ctx, node, look, "sh", "-s")
	if err != nil {
		return none, err
	}
	seen, err := readLook(string(text))
	if err != nil {
		return none, fmt.Errorf("%s: %w", node, err)
	}
	text, err = run(ctx, api, "", append(kubectl, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/configz")...)
	if err != nil {
		return none, err
	}
	facts, authority, err := kubeletFacts(text, seen.kubelet)
	if err != nil {
		return none, fmt.Errorf("%s: the kubelet's configuration: %w", node, err)
	}
	// Files that are named by a program's settings.
	named := map[string]string{"ca": authority}
	named["config"], _ = flag(seen.kubelet, "config")
	named["kubeconfig"], _ = flag(seen.kubelet, "kubeconfig")
	if file, ok := flag(seen.proxy, "kubeconfig"); ok { // in the view of kube-proxy, which is a container's
		named["proxy"] = "/proc/" + seen.proxyPID + "/root" + path.Clean("/"+file)
	}
	for group, file := range named {
		if file == "" {
			continue
		}
		text, err := run(ctx, node, "", "stat", "-L", "-c", "file\t"+group+"\t%a\t%U:%G\t-", "--", file)
		if err != nil {
			return none, err
		}
		more, err := readLook(string(text) + "kubelet\t-\n")
		if err != nil {
			return none, fmt.Errorf("%s: %w", node, err)
		}
		seen.files = append(seen.files, more.files...)
	}
	for _, file := range seen.files {
		names := fileFacts[file.group]
		add(facts, names.mode, file.mode)
		add(facts, names.owner, file.owner)
	}
	return subject{where: node, master: master, facts: facts}, nil
}

func add(facts map[string]any, name string, value any) {
	if name != "" {
		values, _ := facts[name].([]any)
		facts[name] = append(values, value)
	}
}

// kubeletFacts gives the kubelet's settings in the types that the rules compare: words for what is true or false,
// and numbers for ports, rates and times. /configz is what the kubelet runs with, flags included; it leaves out
// what is zero.
func kubeletFacts(configz []byte, words []string) (facts map[string]any, authority string, err error) {
	var answer struct {
		KubeletConfig *struct {
			Authentication struct {
				X509      struct{ ClientCAFile string }
				Anonymous struct{ Enabled *bool }
			}
			Authorization                  struct{ Mode string }
			ReadOnlyPort                   int
			StreamingConnectionIdleTimeout string
			ProtectKernelDefaults          bool
			MakeIPTablesUtilChains         *bool
			EventRecordQPS                 *int
			FeatureGates                   map[string]bool
			RotateCertificates             bool
			TLSCertFile                    string
			TLSPrivateKeyFile              string
			TLSCipherSuites                []string
		}
	}
	if err := json.Unmarshal(configz, &answer); err != nil {
		return nil, "", err
	}
	c := answer.KubeletConfig
	if c == nil || c.Authentication.Anonymous.Enabled == nil || c.MakeIPTablesUtilChains == nil || c.EventRecordQPS == nil {
		return nil, "", errors.New("/configz lacks what a kubelet always has")
	}
	timeout, err := time.ParseDuration(c.StreamingConnectionIdleTimeout)
	if err != nil {
		return nil, "", err
	}
	truth := func(value bool) []any { return []any{strconv.FormatBool(value)} }
	text := func(values ...string) []any { // what is empty is not set
		list := []any{}
		for _, value := range values {
			if value != "" {
				list = append(list, value)
			}
		}
		return list
	}
	rotateServer := []any{}
	if gate, ok := c.FeatureGates["RotateKubeletServerCertificate"]; ok {
		rotateServer = truth(gate)
	}
	hostname, _ := flag(words, "hostname-override")
	return map[string]any{
		"kubeletAnonymousAuthArgumentSet":                  truth(*c.Authentication.Anonymous.Enabled),
		"kubeletAuthorizationModeArgumentSet":              text(c.Authorization.Mode),
		"kubeletClientCaFileArgumentSet":                   text(c.Authentication.X509.ClientCAFile),
		"kubeletReadOnlyPortArgumentSet":                   []any{c.ReadOnlyPort},
		"kubeletStreamingConnectionIdleTimeoutArgumentSet": []any{timeout.Seconds()},
		"kubeletProtectKernelDefaultsArgumentSet":          truth(c.ProtectKernelDefaults),
		"kubeletMakeIptablesUtilChainsArgumentSet":         truth(*c.MakeIPTablesUtilChains),
		"kubeletHostnameOverrideArgumentSet":               text(hostname),
		"kubeletEventQpsArgumentSet":                       []any{*c.EventRecordQPS},
		"kubeletTlsCertFileTlsArgumentSet":                 text(c.TLSCertFile),
		"kubeletTlsPrivateKeyFileArgumentSet":              text(c.TLSPrivateKeyFile),
		"kubeletRotateCertificatesArgumentSet":             truth(c.RotateCertificates),
		"kubeletRotateKubeletServerCertificateArgumentSet": rotateServer,
		"kubeletOnlyUseStrongCryptographic":                text(c.TLSCipherSuites...),
	}, c.Authentication.X509.ClientCAFile, nil
}

// errNotYet is said of a control plane that is just being replaced: the API shows a static Pod of which it has not
// heard from the kubelet yet.
var errNotYet = errors.New("not running yet, wait until the cluster is healthy")

// collect gathers everything, and gives a control plane that is being replaced some time.
func collect(ctx context.Context, run runner, masters, workers []string, patience time.Duration) ([]subject, error) {
	var subjects []subject
	for begin := time.Now(); ; {
		list, err := run(ctx, masters[0], "", append(kubectl, "--namespace", "kube-system", "get", "pods", "--output", "json")...)
		if err == nil {
			subjects, err = readPods(list, masters)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, errNotYet) || time.Since(begin) > patience {
			return nil, err
		}
		time.Sleep(patience / 50)
	}
	for _, node := range append(slices.Clone(masters), workers...) {
		s, err := collectNode(ctx, run, node, masters[0], slices.Contains(masters, node))
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, s)
	}
	return subjects, nil
}
