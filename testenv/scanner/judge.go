package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// subject is one thing that rules look at: a control-plane program's Pod, or a node's facts.
type subject struct {
	where   string // a Pod's or a node's name
	program string // of a Pod
	master  bool   // of a node: it has a control plane
	facts   map[string]any
	pod     map[string]any
}

// The two shapes that the rules read: a Pod of the API, or Trivy's own NodeInfo.
func (s *subject) input() any {
	if s.pod != nil {
		return s.pod
	}
	kind := "worker"
	if s.master {
		kind = "master"
	}
	info := map[string]any{}
	for key, values := range s.facts {
		info[key] = map[string]any{"values": values}
	}
	return map[string]any{
		"apiVersion": "v1",
		"kind":       "NodeInfo",
		"metadata":   map[string]any{"name": s.where},
		"type":       kind,
		"info":       info,
	}
}

// judgeable says whether the rule finds on the subject what it is about.
func (r *rule) judgeable(s *subject) bool {
	if s.pod != nil {
		return slices.Contains(r.programs, s.program)
	}
	if len(r.keys) == 0 || !s.master && !r.workersToo {
		return false
	}
	for _, key := range r.keys {
		if _, ok := s.facts[key]; !ok {
			return false
		}
	}
	return true
}

const (
	passed  = "PASS"
	failed  = "FAIL"
	skipped = "SKIPPED"
)

// verdict is the outcome of one rule on all subjects.
type verdict struct {
	Rule       string   `json:"rule"`
	Specified  string   `json:"specified,omitempty"`
	Control    string   `json:"control,omitempty"`
	Scored     bool     `json:"scored"`
	Severity   string   `json:"severity"`
	Title      string   `json:"title"`
	Result     string   `json:"result"`
	Where      []string `json:"where"` // for FAIL the places that fail, for PASS all that were judged
	Message    string   `json:"message,omitempty"`
	KnownWrong string   `json:"known_wrong,omitempty"`
}

// judge gives one verdict a rule.
func judge(ctx context.Context, rules []rule, subjects []subject) ([]verdict, error) {
	verdicts := make([]verdict, 0, len(rules))
	for i := range rules {
		r := &rules[i]
		v := verdict{Rule: r.id, Specified: r.specified, Scored: r.scored, Severity: r.severity, Title: r.title,
			Result: skipped, Where: []string{}, KnownWrong: r.knownWrong}
		if r.control != "-" {
			v.Control = r.control
		}
		var bad, messages []string
		for j := range subjects {
			s := &subjects[j]
			if !r.judgeable(s) {
				continue
			}
			said, err := r.deny(ctx, s.input())
			if err != nil {
				return nil, fmt.Errorf("on %s: %w", s.where, err)
			}
			v.Where = append(v.Where, s.where)
			if len(said) > 0 {
				bad = append(bad, s.where)
				for _, message := range said {
					if !slices.Contains(messages, message) {
						messages = append(messages, message)
					}
				}
			}
		}
		switch {
		case len(bad) > 0:
			v.Result, v.Where, v.Message = failed, bad, strings.Join(messages, "; ")
		case len(v.Where) > 0:
			v.Result = passed
		default:
			v.Message = "nothing to judge"
		}
		verdicts = append(verdicts, v)
	}
	return verdicts, nil
}
