// Command runc-bounded is runc for a machine on which not even root has every
// capability.
//
// `docker run --privileged` and `docker exec --privileged` ask for all of them, and
// runc refuses to start when the kernel will not give one. This wrapper takes out of
// the request what is missing from its own bounding set and then becomes runc. On a
// machine that has every capability it changes nothing.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// capabilities in the kernel's order: the index is the bit (linux/capability.h).
var capabilities = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
	SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
	AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
	BPF CHECKPOINT_RESTORE`)

func main() {
	args := os.Args[1:]
	if err := bound(args); err != nil {
		fmt.Fprintln(os.Stderr, "runc-bounded:", err)
		os.Exit(1)
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		fmt.Fprintln(os.Stderr, "runc-bounded: cannot find runc in PATH:", err)
		os.Exit(1)
	}
	err = syscall.Exec(runc, append([]string{"runc"}, args...), os.Environ())
	fmt.Fprintln(os.Stderr, "runc-bounded: cannot run runc:", err)
	os.Exit(1)
}

// bound edits the file in which this call of runc finds its capabilities, if it has one.
func bound(args []string) error {
	self, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	missing, err := missingCapabilities(string(self))
	if err != nil || len(missing) == 0 {
		return err
	}
	switch {
	case slices.Contains(args, "create"), slices.Contains(args, "run"):
		bundle := option(args, "--bundle", "-b")
		if bundle == "" {
			bundle = "."
		}
		return edit(filepath.Join(bundle, "config.json"), missing)
	case slices.Contains(args, "exec"):
		if process := option(args, "--process", "-p"); process != "" {
			return edit(process, missing)
		}
	}
	return nil
}

// missingCapabilities reads the bounding set out of the text of /proc/PID/status.
func missingCapabilities(status string) (map[string]bool, error) {
	for line := range strings.Lines(status) {
		hex, ok := strings.CutPrefix(line, "CapBnd:")
		if !ok {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err != nil {
			return nil, err
		}
		missing := map[string]bool{}
		for bit, name := range capabilities {
			if set>>bit&1 == 0 {
				missing["CAP_"+name] = true
			}
		}
		return missing, nil
	}
	return nil, errors.New("/proc/self/status names no bounding set")
}

func option(args []string, names ...string) string {
	for i, arg := range args {
		for _, name := range names {
			if arg == name && i+1 < len(args) {
				return args[i+1]
			}
			if value, ok := strings.CutPrefix(arg, name+"="); ok {
				return value
			}
		}
	}
	return ""
}

// edit rewrites an OCI bundle's config.json, or the process document of an exec.
func edit(path string, missing map[string]bool) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	out, err := without(text, missing)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	temporary := path + ".bounded"
	if err := os.WriteFile(temporary, out, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// without returns the document with the missing capabilities taken out and everything
// else kept as it was, large numbers included.
func without(text []byte, missing map[string]bool) ([]byte, error) {
	var document map[string]json.RawMessage
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	if process, ok := document["process"]; ok {
		inner, err := without(process, missing)
		if err != nil {
			return nil, err
		}
		document["process"] = inner
	}
	if raw, ok := document["capabilities"]; ok {
		var sets map[string][]string
		if err := json.Unmarshal(raw, &sets); err != nil {
			return nil, err
		}
		for set, names := range sets {
			sets[set] = slices.DeleteFunc(names, func(name string) bool { return missing[name] })
		}
		inner, err := json.Marshal(sets)
		if err != nil {
			return nil, err
		}
		document["capabilities"] = inner
	}
	return json.Marshal(document)
}
