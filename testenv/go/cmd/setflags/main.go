// Command setflags changes the flags of a control-plane program in either place where
// kubeadm keeps them: a static pod's manifest, or the ClusterConfiguration of the
// kubeadm-config ConfigMap.
//
//	setflags COMPONENT profiling=true 'audit-*' < before.yaml > after.yaml
//
// NAME=VALUE sets a flag; a bare NAME, which may be a pattern, takes flags out.
// Nothing is written when nothing needs to change.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"sigs.k8s.io/yaml"
)

// sections maps a program to its part of a ClusterConfiguration, the outermost key first.
var sections = map[string][]string{
	"etcd":                    {"etcd", "local"},
	"kube-apiserver":          {"apiServer"},
	"kube-controller-manager": {"controllerManager"},
	"kube-scheduler":          {"scheduler"},
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: setflags COMPONENT NAME=VALUE|PATTERN ...")
		os.Exit(2)
	}
	in, err := io.ReadAll(os.Stdin)
	if err == nil {
		in, err = change(in, os.Args[1], os.Args[2:])
	}
	if err == nil {
		_, err = os.Stdout.Write(in)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "setflags:", err)
		os.Exit(1)
	}
}

// change returns the edited document, or nothing when it already is as wanted.
func change(text []byte, component string, edits []string) ([]byte, error) {
	section, ok := sections[component]
	if !ok {
		return nil, fmt.Errorf("unknown component %q", component)
	}
	var document map[string]any
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	var changed bool
	var err error
	switch kind := document["kind"]; kind {
	case "Pod":
		changed, err = changePod(document, component, edits)
	case "ClusterConfiguration":
		changed, err = changeConfiguration(document, section, edits)
	default:
		err = fmt.Errorf("cannot edit a %v", kind)
	}
	if err != nil || !changed {
		return nil, err
	}
	return yaml.Marshal(document)
}

func changePod(pod map[string]any, component string, edits []string) (bool, error) {
	spec, _ := pod["spec"].(map[string]any)
	containers, _ := spec["containers"].([]any)
	for _, c := range containers {
		container, _ := c.(map[string]any)
		if container["name"] != component {
			continue
		}
		command, _ := container["command"].([]any)
		var flags []flag
		var words []any // what is not a flag, such as the program itself
		for _, w := range command {
			word := fmt.Sprint(w)
			if name, value, ok := strings.Cut(strings.TrimPrefix(word, "--"), "="); ok && strings.HasPrefix(word, "--") {
				flags = append(flags, flag{name, value})
			} else {
				words = append(words, word)
			}
		}
		flags, changed, err := apply(flags, edits)
		for _, f := range flags {
			words = append(words, "--"+f.name+"="+f.value)
		}
		container["command"] = words
		return changed, err
	}
	return false, fmt.Errorf("the pod has no container %s", component)
}

func changeConfiguration(configuration map[string]any, section []string, edits []string) (bool, error) {
	part := configuration
	for _, key := range section {
		if key == "local" && part["external"] != nil {
			return false, errors.New("etcd is external: it has no flags here")
		}
		inner, _ := part[key].(map[string]any)
		if inner == nil {
			inner = map[string]any{}
			part[key] = inner
		}
		part = inner
	}
	var flags []flag
	switch args := part["extraArgs"].(type) {
	case nil:
	case []any: // kubeadm.k8s.io/v1beta4
		for _, a := range args {
			arg, _ := a.(map[string]any)
			flags = append(flags, flag{fmt.Sprint(arg["name"]), fmt.Sprint(arg["value"])})
		}
	default: // v1beta3 had a map; kubeadm has stored v1beta4 since 1.31
		return false, errors.New("extraArgs is not a list: the configuration is older than kubeadm.k8s.io/v1beta4")
	}
	flags, changed, err := apply(flags, edits)
	args := make([]any, 0, len(flags))
	for _, f := range flags {
		args = append(args, map[string]any{"name": f.name, "value": f.value})
	}
	part["extraArgs"] = args
	return changed, err
}

type flag struct{ name, value string }

// apply returns the flags after the edits, and whether that is a difference.
func apply(flags []flag, edits []string) ([]flag, bool, error) {
	changed := false
	for _, edit := range edits {
		name, value, set := strings.Cut(edit, "=")
		var kept []flag
		found := false
		for _, f := range flags {
			match, err := path.Match(name, f.name)
			switch {
			case err != nil:
				return nil, false, fmt.Errorf("%q: %w", name, err)
			case !match:
				kept = append(kept, f)
			case set && !found:
				found = true
				changed = changed || f.value != value
				kept = append(kept, flag{name, value})
			default:
				changed = true
			}
		}
		if set && !found {
			changed = true
			kept = append(kept, flag{name, value})
		}
		flags = kept
	}
	return flags, changed, nil
}
