// Command load is a client of a cluster that can tell afterwards what it noticed: it reads, lists
// in pages, writes, and watches its own writes, through the address in a kubeconfig, until SIGTERM
// or for a given time. On standard output it then prints one JSON document with what went wrong,
// as it met the program and as it was left after the retries that every client has.
//
//	load --kubeconfig FILE [--seconds N] [--rate N] [--maps N]
//
// On standard error it says `running` once the watch is there and requests begin. It works in a
// namespace of its own, which it deletes. Exit status 0: it could measure, whatever it found.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	kubeconfig := flag.String("kubeconfig", "", "the cluster's administrator")
	seconds := flag.Float64("seconds", 0, "how long; 0 is until SIGTERM")
	rate := flag.Float64("rate", 20, "requests a second, all kinds together; retries are on top")
	maps := flag.Int("maps", 1, "ConfigMaps that are being written at the same time")
	flag.Parse()
	if *kubeconfig == "" || flag.NArg() > 0 || *rate < 1 || *rate > 200 || *seconds < 0 || *maps < 1 || *maps > 1000 {
		return fmt.Errorf("usage: load --kubeconfig FILE [--seconds N] [--rate 1..200] [--maps 1..1000]")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	// The first signal ends the load and everything is counted to its end; the second ends at once.
	first, release := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer release()
	until := first
	if *seconds > 0 {
		var cancel context.CancelFunc
		until, cancel = context.WithTimeout(first, time.Duration(*seconds*float64(time.Second)))
		defer cancel()
	}
	made, err := measure(until, config, settings{
		rate:    *rate,
		maps:    *maps,
		attempt: 10 * time.Second,
		window:  10 * time.Second,
		catchUp: 30 * time.Second,
		running: func() {
			fmt.Fprintln(os.Stderr, "running")
		},
		ending: release,
	})
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(made)
}
