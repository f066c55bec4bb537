package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
)

// counts of verdicts; a failure of a rule that is known to be wrong is only in KnownWrong.
type counts struct {
	Passed     int `json:"passed"`
	Failed     int `json:"failed"`
	Skipped    int `json:"skipped"`
	KnownWrong int `json:"known_wrong"`
}

func (c *counts) add(v *verdict) {
	switch {
	case v.Result == skipped:
		c.Skipped++
	case v.Result == passed:
		c.Passed++
	case v.KnownWrong != "":
		c.KnownWrong++
	default:
		c.Failed++
	}
}

type report struct {
	Schema  string    `json:"schema"`
	Rules   string    `json:"rules"`
	Checks  []verdict `json:"checks"`
	All     counts    `json:"all"`
	Scored  counts    `json:"scored"`
	Without []string  `json:"scored_controls_without_a_rule"`
}

func newReport(verdicts []verdict, without []string) *report {
	r := &report{Schema: "testenv/scan/v1", Rules: rulesVersion(), Checks: verdicts, Without: without}
	for i := range verdicts {
		r.All.add(&verdicts[i])
		if verdicts[i].Scored {
			r.Scored.add(&verdicts[i])
		}
	}
	return r
}

const rulesModule = "github.com/aquasecurity/trivy-checks"

func rulesVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == rulesModule {
				return rulesModule + " " + module.Version
			}
		}
	}
	return rulesModule
}

func (r *report) writeJSON(out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

func (r *report) writeText(out io.Writer) error {
	var text, apart strings.Builder
	for i := range r.Checks {
		v := &r.Checks[i]
		if v.Result == failed && v.KnownWrong != "" {
			line(&apart, v)
			fmt.Fprintf(&apart, "         %s\n", v.KnownWrong)
		} else {
			line(&text, v)
		}
	}
	if apart.Len() > 0 {
		fmt.Fprintf(&text, "\nRules that are known to be wrong (they do not count):\n%s", apart.String())
	}
	fmt.Fprintf(&text, "\nscored in CIS 1.12: %s\nall:                %s\n", r.Scored.text(), r.All.text())
	fmt.Fprintf(&text, "scored, but without a rule: %s\nrules: %s\n", strings.Join(r.Without, ", "), r.Rules)
	_, err := io.WriteString(out, text.String())
	return err
}

func line(text *strings.Builder, v *verdict) {
	scored := "-"
	if v.Scored {
		scored = "scored"
	}
	fmt.Fprintf(text, "%-8s %s  %-6s %-8s  %-6s  %-8s  %s  [%s]", v.Result, v.Rule, orDash(v.Control), "("+orDash(v.Specified)+")",
		scored, v.Severity, v.Title, strings.Join(v.Where, ", "))
	if v.Message != v.Title { // most rules say again what their title says
		fmt.Fprintf(text, "  %s", v.Message)
	}
	text.WriteString("\n")
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func (c *counts) text() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped, %d known to be wrong", c.Passed, c.Failed, c.Skipped, c.KnownWrong)
}
