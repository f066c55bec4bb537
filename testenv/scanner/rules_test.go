package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func loaded(t *testing.T) *ruleSet {
	t.Helper()
	set, err := load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func pod(program string, words ...string) subject {
	command := []any{program}
	for _, word := range words {
		command = append(command, word)
	}
	return subject{where: program, program: program, pod: map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": program, "namespace": "kube-system"},
		"spec":     map[string]any{"containers": []any{map[string]any{"name": program, "command": command}}},
	}}
}

func goodPods() []subject {
	return []subject{
		pod("kube-apiserver",
			"--anonymous-auth=false", "--kubelet-client-certificate=c", "--kubelet-client-key=k",
			"--kubelet-certificate-authority=ca", "--authorization-mode=Node,RBAC",
			"--enable-admission-plugins=NodeRestriction,EventRateLimit,AlwaysPullImages,SecurityContextDeny",
			"--profiling=false", "--audit-log-path=/log", "--audit-log-maxage=30", "--audit-log-maxbackup=10",
			"--audit-log-maxsize=100", "--service-account-key-file=k", "--etcd-certfile=c", "--etcd-keyfile=k",
			"--tls-cert-file=c", "--tls-private-key-file=k", "--client-ca-file=ca", "--etcd-cafile=ca",
			"--encryption-provider-config=c"),
		pod("kube-controller-manager",
			"--terminated-pod-gc-threshold=10", "--profiling=false", "--use-service-account-credentials=true",
			"--service-account-private-key-file=k", "--root-ca-file=ca",
			"--feature-gates=RotateKubeletServerCertificate=true", "--bind-address=127.0.0.1"),
		pod("kube-scheduler", "--profiling=false", "--bind-address=127.0.0.1"),
		pod("etcd", "--cert-file=c", "--key-file=k", "--client-cert-auth=true", "--peer-cert-file=c",
			"--peer-key-file=k", "--peer-client-cert-auth=true"),
	}
}

func badPods() []subject {
	return []subject{
		pod("kube-apiserver",
			"--token-auth-file=t", "--kubelet-https=false", "--authorization-mode=AlwaysAllow",
			"--enable-admission-plugins=AlwaysAdmit,DenyServiceExternalIPs",
			"--disable-admission-plugins=ServiceAccount,NamespaceLifecycle", "--secure-port=0",
			"--service-account-lookup=false"),
		pod("kube-controller-manager", "--profiling=true"),
		pod("kube-scheduler", "--profiling=true"),
		pod("etcd", "--auto-tls=true", "--peer-auto-tls=true"),
	}
}

// node has every fact that a rule asks for: files with one mode and one owner, and a kubelet.
func node(t *testing.T, mode, dataMode int, owner, dataOwner, configz string, words ...string) subject {
	t.Helper()
	facts, _, err := kubeletFacts([]byte(configz), words)
	if err != nil {
		t.Fatal(err)
	}
	for group, names := range fileFacts {
		m, o := mode, owner
		if group == "data" {
			m, o = dataMode, dataOwner
		}
		add(facts, names.mode, m)
		add(facts, names.owner, o)
	}
	return subject{where: "node", master: true, facts: facts}
}

const goodKubelet = `{"kubeletconfig": {"authentication": {"x509": {"clientCAFile": "/ca.crt"}, "anonymous": {"enabled": false}},
	"authorization": {"mode": "Webhook"}, "streamingConnectionIdleTimeout": "4h0m0s", "protectKernelDefaults": true,
	"makeIPTablesUtilChains": true, "eventRecordQPS": 50, "featureGates": {"RotateKubeletServerCertificate": true},
	"rotateCertificates": true, "tlsCertFile": "/k.crt", "tlsPrivateKeyFile": "/k.key",
	"tlsCipherSuites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]}}`

const badKubelet = `{"kubeletconfig": {"authentication": {"anonymous": {"enabled": true}},
	"authorization": {"mode": "AlwaysAllow"}, "readOnlyPort": 10255, "streamingConnectionIdleTimeout": "0s",
	"makeIPTablesUtilChains": false, "eventRecordQPS": -1, "tlsCipherSuites": ["TLS_RSA_WITH_RC4_128_SHA"]}}`

func results(t *testing.T, set *ruleSet, subjects []subject) map[string]verdict {
	t.Helper()
	verdicts, err := judge(context.Background(), set.rules, subjects)
	if err != nil {
		t.Fatal(err)
	}
	byRule := map[string]verdict{}
	for _, v := range verdicts {
		byRule[v.Rule] = v
	}
	return byRule
}

func TestEveryRuleFlipsWithItsInput(t *testing.T) {
	set := loaded(t)
	good := results(t, set, append(goodPods(), node(t, 600, 700, "root:root", "etcd:etcd", goodKubelet)))
	bad := results(t, set, append(badPods(), node(t, 644, 755, "ops:ops", "root:root", badKubelet, "--hostname-override=x")))
	if len(good) != 89 {
		t.Errorf("%d rules, not 89", len(good))
	}
	for id, v := range good {
		if v.Result != passed {
			t.Errorf("%s on what is good: %s %s", id, v.Result, v.Message)
		}
		if v := bad[id]; v.Result != failed || v.Message == "" || len(v.Where) != 1 {
			t.Errorf("%s on what is bad: %+v", id, v)
		}
	}
}

func TestOneChangedFlagChangesOneVerdict(t *testing.T) {
	set := loaded(t)
	pods := goodPods()
	before := results(t, set, pods)
	command := pods[2].pod["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)["command"].([]any)
	command[1] = "--profiling=true" // the scheduler's
	for id, v := range results(t, set, pods) {
		if want := before[id].Result; id == "KCV0040" {
			if v.Result != failed || !slices.Equal(v.Where, []string{"kube-scheduler"}) {
				t.Errorf("%+v", v)
			}
		} else if v.Result != want {
			t.Errorf("%s: %s, was %s", id, v.Result, want)
		}
	}
}

func TestNothingToJudgeIsSkippedAndNeverPassed(t *testing.T) {
	set := loaded(t)
	for id, v := range results(t, set, nil) {
		if v.Result != skipped {
			t.Errorf("%s: %s without any input", id, v.Result)
		}
	}
	without := node(t, 600, 700, "root:root", "etcd:etcd", goodKubelet)
	delete(without.facts, "kubeconfigFileExistsPermissions")
	if v := results(t, set, []subject{without})["KCV0071"]; v.Result != skipped {
		t.Errorf("%+v", v)
	}
	worker := node(t, 644, 755, "ops:ops", "root:root", badKubelet)
	worker.master = false
	judged := results(t, set, []subject{worker})
	if v := judged["KCV0048"]; v.Result != skipped {
		t.Errorf("a worker has no API server: %+v", v)
	}
	if v := judged["KCV0073"]; v.Result != failed {
		t.Errorf("a worker has a kubelet.conf: %+v", v)
	}
}

func TestAFailureNamesThePlacesThatFail(t *testing.T) {
	set := loaded(t)
	one := node(t, 600, 700, "root:root", "etcd:etcd", goodKubelet)
	other := node(t, 644, 700, "root:root", "etcd:etcd", goodKubelet)
	one.where, other.where = "one", "other"
	v := results(t, set, []subject{one, other})["KCV0077"]
	if v.Result != failed || !slices.Equal(v.Where, []string{"other"}) || !strings.Contains(v.Message, "644") {
		t.Errorf("%+v", v)
	}
}

func TestSeveralWrongValuesAreAFailureToo(t *testing.T) {
	set := loaded(t)
	kubelet := strings.Replace(badKubelet, `"TLS_RSA_WITH_RC4_128_SHA"`, `"TLS_RSA_WITH_RC4_128_SHA", "TLS_RSA_WITH_AES_128_CBC_SHA"`, 1)
	n := node(t, 644, 755, "ops:ops", "root:root", kubelet, "--hostname-override=x")
	for name, values := range n.facts { // a second wrong one
		for _, value := range values.([]any) {
			switch value := value.(type) {
			case int:
				add(n.facts, name, value+1)
			case string:
				add(n.facts, name, "not "+value)
			}
		}
	}
	for id, v := range results(t, set, []subject{n}) {
		if len(v.Where) > 0 && v.Result != failed {
			t.Errorf("%s: %+v", id, v)
		}
	}
}

func TestTheTablesAreAboutTheRules(t *testing.T) {
	set := loaded(t)
	controls := map[string]bool{}
	for _, r := range set.rules {
		if r.scored {
			controls[r.control] = true
		}
		if r.knownWrong != "" && r.scored {
			t.Errorf("%s: a scored control cannot be excused", r.id)
		}
		// the specification forgets the scheduler's profiling
		if (r.specified == "") != (r.id == "KCV0040") {
			t.Errorf("%s is %q in the specification", r.id, r.specified)
		}
	}
	if len(controls) != 63 || !slices.Equal(set.without, []string{"1.2.30", "4.3.1"}) {
		t.Errorf("%d scored controls have rules, %v have none", len(controls), set.without)
	}
}

func TestTheReportCountsAndExcusesApart(t *testing.T) {
	set := loaded(t)
	verdicts, err := judge(context.Background(), set.rules, badPods())
	if err != nil {
		t.Fatal(err)
	}
	made := newReport(verdicts, set.without)
	if made.All.KnownWrong != 2 || made.Scored.KnownWrong != 0 || made.All.Failed == 0 || made.Scored.Failed >= made.All.Failed {
		t.Errorf("%+v %+v", made.All, made.Scored)
	}
	if sum := made.All.Passed + made.All.Failed + made.All.Skipped + made.All.KnownWrong; sum != len(verdicts) {
		t.Errorf("%d of %d", sum, len(verdicts))
	}
	var text, document strings.Builder
	if err := made.writeText(&text); err != nil {
		t.Fatal(err)
	}
	normal, apart, _ := strings.Cut(text.String(), "known to be wrong (they do not count):")
	if strings.Contains(normal, "KCV0013") || !strings.Contains(apart, "FAIL     KCV0013") || !strings.Contains(normal, "FAIL     KCV0018  1.2.15") {
		t.Error(text.String())
	}
	if err := made.writeJSON(&document); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal([]byte(document.String()), &back); err != nil || len(back.Checks) != len(verdicts) {
		t.Error(err, len(back.Checks))
	}
}
