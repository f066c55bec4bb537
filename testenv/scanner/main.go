// Command scanner judges a cluster of the test environment by rules that others wrote: those of
// Trivy for the CIS Kubernetes Benchmark. It only reads.
//
//	scanner [--json] [--scored] CONTROL-PLANE... [-- WORKER...]
//
// The nodes are Docker containers. Exit status 0: nothing failed, 2: something did, 1: no judgement.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

func main() {
	status, err := scan(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		status = 1
	}
	os.Exit(status)
}

// order is what was asked for on the command line.
type order struct {
	json, scored     bool
	masters, workers []string
}

func readOrder(words []string) (order, error) {
	var o order
	for len(words) > 0 && len(words[0]) > 1 && words[0][0] == '-' && words[0] != "--" {
		switch words[0] {
		case "--json":
			o.json = true
		case "--scored":
			o.scored = true
		default:
			return o, fmt.Errorf("unknown option %q", words[0])
		}
		words = words[1:]
	}
	o.masters = words
	if end := slices.Index(words, "--"); end >= 0 {
		o.masters, o.workers = words[:end], words[end+1:]
	}
	if len(o.masters) == 0 {
		return o, errors.New("usage: scanner [--json] [--scored] CONTROL-PLANE... [-- WORKER...]")
	}
	return o, nil
}

func scan(words []string) (int, error) {
	asked, err := readOrder(words)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	set, err := load(ctx)
	if err != nil {
		return 0, fmt.Errorf("the rules: %w", err)
	}
	rules := set.rules
	if asked.scored {
		rules = slices.DeleteFunc(rules, func(r rule) bool { return !r.scored })
	}
	subjects, err := collect(ctx, dockerExec, asked.masters, asked.workers, time.Minute)
	if err != nil {
		return 0, err
	}
	verdicts, err := judge(ctx, rules, subjects)
	if err != nil {
		return 0, err
	}
	made := newReport(verdicts, set.without)
	if asked.json {
		err = made.writeJSON(os.Stdout)
	} else {
		err = made.writeText(os.Stdout)
	}
	if err == nil && made.All.Failed > 0 {
		return 2, nil
	}
	return 0, err
}
