package main

import (
	"strings"
	"testing"
)

func TestMissingCapabilitiesReadsTheBoundingSet(t *testing.T) {
	missing, err := missingCapabilities("CapEff:\t0\nCapBnd:\t000001fffeffffff\nCapAmb:\t0\n")
	if err != nil || len(missing) != 1 || !missing["CAP_SYS_RESOURCE"] {
		t.Fatalf("got %v, %v", missing, err)
	}
	missing, err = missingCapabilities("CapBnd:\t000001ffffffffff\n")
	if err != nil || len(missing) != 0 {
		t.Fatalf("a full set: got %v, %v", missing, err)
	}
	if _, err := missingCapabilities("Name:\tx\n"); err == nil {
		t.Fatal("no CapBnd line: want an error")
	}
}

func TestWithoutTakesOutOnlyWhatIsMissing(t *testing.T) {
	gone := map[string]bool{"CAP_SYS_RESOURCE": true}
	bundle := `{"process":{"capabilities":{"bounding":["CAP_KILL","CAP_SYS_RESOURCE"],"ambient":null}},"limit":9223372036854771712}`
	out, err := without([]byte(bundle), gone)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"bounding":["CAP_KILL"]`, `"limit":9223372036854771712`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
	out, err = without([]byte(`{"args":["sh"],"capabilities":{"effective":["CAP_SYS_RESOURCE"]}}`), gone)
	if err != nil || string(out) != `{"args":["sh"],"capabilities":{"effective":[]}}` {
		t.Fatalf("an exec's process: got %s, %v", out, err)
	}
}

func TestOption(t *testing.T) {
	args := []string{"--root", "/r", "create", "--bundle", "/b", "--pid-file=/p", "id"}
	for want, names := range map[string][]string{"/b": {"--bundle", "-b"}, "/p": {"--pid-file"}, "": {"--process", "-p"}} {
		if got := option(args, names...); got != want {
			t.Errorf("%v: got %q, want %q", names, got, want)
		}
	}
}
