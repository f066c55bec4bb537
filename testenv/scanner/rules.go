package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"

	trivy "github.com/aquasecurity/trivy-checks"
	"github.com/aquasecurity/trivy-checks/pkg/specs"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
	"gopkg.in/yaml.v3"
)

const (
	rulesFolder   = "checks/kubernetes/cisbenchmarks"
	libraryFolder = "lib/kubernetes"
	specification = "k8s-cis-1.23"
)

//go:embed controls.tsv
var controlsTable string

//go:embed known-wrong.tsv
var knownWrongTable string

// rule is one check as Trivy publishes it, and what it is about.
type rule struct {
	id, title, severity string
	specified           string   // the control's number in the rules' own specification; empty if it has none
	control             string   // its number in CIS 1.12, or "-"
	scored              bool     // that control is scored in CIS 1.12
	knownWrong          string   // why its failures do not count; empty for nearly all
	programs            []string // it looks at Pods that run one of these
	keys                []string // it looks at these facts of a NodeInfo
	workersToo          bool     // it judges nodes without a control plane
	query               rego.PreparedEvalQuery
}

// ruleSet has all rules, and the scored controls that no rule is about.
type ruleSet struct {
	rules   []rule
	without []string
}

// Trivy gives its rules one function of its own, which makes a result of a message and what it is about.
func init() {
	rego.RegisterBuiltin2(&rego.Function{
		Name: "result.new",
		Decl: types.NewFunction(types.Args(types.S, types.A), types.A),
	}, func(_ rego.BuiltinContext, message, about *ast.Term) (*ast.Term, error) {
		return ast.ObjectTerm(
			ast.Item(ast.StringTerm("message"), message),
			ast.Item(ast.StringTerm("about"), about),
		), nil
	})
}

// programsByTest says which program a predicate of the rules' library selects.
var programsByTest = map[string]string{
	"is_apiserver":         "kube-apiserver",
	"is_controllermanager": "kube-controller-manager",
	"is_scheduler":         "kube-scheduler",
	"is_etcd":              "etcd",
}

// load compiles the rules. What a rule is about is read from the rule itself, so that a rule that finds
// nothing to judge can be told from one that found nothing wrong.
func load(ctx context.Context) (*ruleSet, error) {
	modules, err := parse(trivy.EmbeddedPolicyFileSystem, rulesFolder)
	if err != nil {
		return nil, err
	}
	library, err := parse(trivy.EmbeddedLibraryFileSystem, libraryFolder)
	if err != nil {
		return nil, err
	}
	all := map[string]*ast.Module{}
	for name, module := range library {
		all[name] = module
	}
	set := &ruleSet{}
	for name, module := range modules {
		all[name] = module
		read, err := readRule(module)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		set.rules = append(set.rules, read)
	}
	sort.Slice(set.rules, func(i, j int) bool { return set.rules[i].id < set.rules[j].id })
	if set.without, err = readTables(set.rules); err != nil {
		return nil, err
	}
	// compiling changes the modules, so this comes after reading them
	compiler := ast.NewCompiler()
	if compiler.Compile(all); compiler.Failed() {
		return nil, compiler.Errors
	}
	for i := range set.rules {
		query, err := rego.New(
			rego.Compiler(compiler),
			rego.Query("data.builtin.kubernetes."+set.rules[i].id+".deny"),
			rego.StrictBuiltinErrors(true), // an error must not look like "nothing wrong"
		).PrepareForEval(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", set.rules[i].id, err)
		}
		set.rules[i].query = query
	}
	return set, nil
}

func parse(files fs.FS, folder string) (map[string]*ast.Module, error) {
	modules := map[string]*ast.Module{}
	err := fs.WalkDir(files, folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".rego" || strings.HasSuffix(name, "_test.rego") {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		modules[name], err = ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{
			RegoVersion:       ast.RegoV0,
			ProcessAnnotation: true,
		})
		return err
	})
	return modules, err
}

func readRule(module *ast.Module) (rule, error) {
	// the end of the package, because one rule has the id KCV0135 in its annotations, and is KCV0035 everywhere else
	last, _ := module.Package.Path[len(module.Package.Path)-1].Value.(ast.String)
	read := rule{id: string(last)}
	for _, annotation := range module.Annotations {
		if annotation.Scope != "package" {
			continue
		}
		read.title = annotation.Title
		read.severity, _ = annotation.Custom["severity"].(string)
	}
	programs, keys := map[string]bool{}, map[string]bool{}
	ast.WalkRefs(module, func(ref ast.Ref) bool {
		for i, term := range ref {
			text, ok := term.Value.(ast.String)
			if !ok || i == 0 {
				continue
			}
			if program, ok := programsByTest[string(text)]; ok {
				programs[program] = true
			}
			if string(text) == "info" && i+1 < len(ref) {
				if key, ok := ref[i+1].Value.(ast.String); ok {
					keys[string(key)] = true
				}
			}
		}
		return false
	})
	ast.WalkTerms(module, func(term *ast.Term) bool {
		if text, ok := term.Value.(ast.String); ok && text == "worker" {
			read.workersToo = true
		}
		return false
	})
	read.programs, read.keys = sorted(programs), sorted(keys)
	if read.id == "KCV0003" && len(read.programs) == 0 {
		read.programs = []string{"kube-apiserver"} // it looks for the API server's flag in every program
	}
	if (len(read.programs) == 0) == (len(read.keys) == 0) {
		return read, errors.New("what the rule is about is unclear: neither, or both, of a program and a node's facts")
	}
	return read, nil
}

func sorted(set map[string]bool) []string {
	words := make([]string, 0, len(set))
	for word := range set {
		words = append(words, word)
	}
	sort.Strings(words)
	return words
}

// readTables fills in what is said about the rules elsewhere, and returns the scored controls without a rule.
func readTables(rules []rule) (without []string, err error) {
	byID := map[string]*rule{}
	for i := range rules {
		byID[rules[i].id] = &rules[i]
	}
	mapped := map[string]bool{}
	err = rows(controlsTable, func(cells []string) error {
		id, control, scored := cells[0], cells[1], cells[2] == "yes"
		if id == "-" {
			without = append(without, control)
			return nil
		}
		found, ok := byID[id]
		if !ok || mapped[id] {
			return fmt.Errorf("controls.tsv: %s: no such rule, or a second row for it", id)
		}
		mapped[id] = true
		found.control, found.scored = control, scored
		return nil
	})
	if err != nil {
		return nil, err
	}
	for id := range byID {
		if !mapped[id] {
			return nil, fmt.Errorf("controls.tsv has no row for %s", id)
		}
	}
	err = rows(knownWrongTable, func(cells []string) error {
		found, ok := byID[cells[0]]
		if !ok {
			return fmt.Errorf("known-wrong.tsv: no such rule: %s", cells[0])
		}
		found.knownWrong = cells[1] + " (" + cells[2] + ")"
		return nil
	})
	if err != nil {
		return nil, err
	}
	return without, readSpecification(byID)
}

// rows calls for each row of three cells; a line that begins with # is a comment.
func rows(table string, each func(cells []string) error) error {
	for _, line := range strings.Split(strings.TrimSpace(table), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Split(line, "\t")
		if len(cells) != 3 {
			return fmt.Errorf("not three cells: %q", line)
		}
		if err := each(cells); err != nil {
			return err
		}
	}
	return nil
}

func readSpecification(byID map[string]*rule) error {
	var document struct {
		Spec struct {
			Controls []struct {
				ID, Severity string
				Checks       []struct{ ID string }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(specs.GetSpec(specification)), &document); err != nil {
		return fmt.Errorf("the specification %s: %w", specification, err)
	}
	if len(document.Spec.Controls) == 0 {
		return fmt.Errorf("the specification %s is empty", specification)
	}
	for _, control := range document.Spec.Controls {
		for _, check := range control.Checks {
			id := strings.ReplaceAll(strings.TrimPrefix(check.ID, "AVD-"), "-", "")
			if found, ok := byID[id]; ok {
				found.specified, found.severity = control.ID, control.Severity
			}
		}
	}
	return nil
}

// deny runs the rule on one input and returns its messages; none means that nothing is wrong.
func (r *rule) deny(ctx context.Context, input any) ([]string, error) {
	results, err := r.query.Eval(ctx, rego.EvalInput(input))
	// Some rules have a function with an output a violation, and OPA wants one at most: two are a conflict. (KCV0092, when
	// two ciphers are weak.) There is no output without a violation, so it is a failure, though not of which value.
	var stopped *topdown.Error
	if errors.As(err, &stopped) && stopped.Code == topdown.ConflictErr && len(r.keys) > 0 {
		return []string{r.title + ": more than one value is wrong"}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.id, err)
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, fmt.Errorf("%s gave %d results", r.id, len(results))
	}
	found, ok := results[0].Expressions[0].Value.([]any)
	if !ok {
		return nil, fmt.Errorf("%s gave a %T", r.id, results[0].Expressions[0].Value)
	}
	var messages []string
	for _, one := range found {
		entry, _ := one.(map[string]any)
		message, _ := entry["message"].(string)
		if len(r.keys) > 0 { // what was seen; a program's whole container would be too much
			seen, err := json.Marshal(entry["about"])
			if err != nil {
				return nil, err
			}
			message += ": " + string(seen)
		}
		messages = append(messages, message)
	}
	sort.Strings(messages)
	return messages, nil
}
