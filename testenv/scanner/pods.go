package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
)

var controlPlanePrograms = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"}

// readPods picks the static Pods of the control plane's programs out of the API's list. A program that runs on one
// control plane must run on all: a Pod that is just being replaced would else go unjudged.
func readPods(list []byte, masters []string) ([]subject, error) {
	var answer struct{ Items []map[string]any }
	if err := json.Unmarshal(list, &answer); err != nil {
		return nil, err
	}
	var subjects []subject
	for _, program := range controlPlanePrograms {
		var on []string
		for _, item := range answer.Items {
			spec, _ := item["spec"].(map[string]any)
			metadata, _ := item["metadata"].(map[string]any)
			annotations, _ := metadata["annotations"].(map[string]any)
			if _, static := annotations["kubernetes.io/config.mirror"]; !static || !runs(spec, program) {
				continue
			}
			status, _ := item["status"].(map[string]any)
			name, _ := metadata["name"].(string)
			if status["phase"] != "Running" {
				return nil, fmt.Errorf("the Pod %s is %v: %w", name, status["phase"], errNotYet)
			}
			node, _ := spec["nodeName"].(string)
			on = append(on, node)
			subjects = append(subjects, subject{where: name, program: program, pod: item})
		}
		for _, node := range masters {
			if len(on) > 0 && !slices.Contains(on, node) {
				return nil, fmt.Errorf("%s has no Pod of %s: %w", node, program, errNotYet)
			}
		}
	}
	if len(subjects) == 0 {
		return nil, errors.New("kube-system has no static Pods of a control plane")
	}
	return subjects, nil
}

func runs(spec map[string]any, program string) bool {
	containers, _ := spec["containers"].([]any)
	for _, one := range containers {
		container, _ := one.(map[string]any)
		command, _ := container["command"].([]any)
		if len(command) > 0 {
			if first, ok := command[0].(string); ok && path.Base(first) == program {
				return true
			}
		}
	}
	return false
}
