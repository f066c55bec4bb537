// Command netd is the pod network of a node, for images that are built rather than pulled:
//
//   - a CNI configuration for the node's own pod addresses,
//   - a route to every other node's pods,
//   - masquerading of what leaves the pod network,
//   - NetworkPolicy (package policy),
//   - a relay for names, because pods cannot reach docker's resolver.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	syncTimeout = 60 * time.Second       // for the API server's first answer
	settle      = 100 * time.Millisecond // so that a burst of events is one change
	retry       = time.Second
	reassert    = 30 * time.Second // puts back what somebody else removed
)

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	name, subnets := os.Getenv("NODE_NAME"), os.Getenv("POD_SUBNET")
	if name == "" || subnets == "" {
		return errors.New("NODE_NAME and POD_SUBNET must be set")
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	// the Service address works only once kube-proxy does, and kube-proxy needs no pod network
	if endpoint := os.Getenv("CONTROL_PLANE_ENDPOINT"); endpoint != "" {
		config.Host = "https://" + endpoint
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		log.Printf("cannot switch on forwarding: %v", err)
	}

	events := make(chan struct{}, 1)
	wake := func() {
		select {
		case events <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { wake() }, UpdateFunc: func(any, any) { wake() }, DeleteFunc: func(any) { wake() },
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	node := &node{
		name: name, podSubnets: strings.Split(subnets, ","),
		nodes: factory.Core().V1().Nodes().Lister(), pods: factory.Core().V1().Pods().Lister(),
		namespaces: factory.Core().V1().Namespaces().Lister(), policies: factory.Networking().V1().NetworkPolicies().Lister(),
	}
	var synced []cache.InformerSynced
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().Nodes().Informer(), factory.Core().V1().Pods().Informer(),
		factory.Core().V1().Namespaces().Informer(), factory.Networking().V1().NetworkPolicies().Informer(),
	} {
		registration, err := informer.AddEventHandler(handler)
		if err != nil {
			return err
		}
		synced = append(synced, registration.HasSynced)
	}
	factory.Start(ctx.Done())
	first, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	if !cache.WaitForCacheSync(first.Done(), synced...) {
		return errors.New("the API server did not answer in time")
	}
	log.Printf("node %s: in step with the API server", name)

	tick := time.NewTicker(reassert)
	defer tick.Stop()
	relaying := false
	for {
		if err := node.apply(); err != nil {
			log.Print(err)
			time.AfterFunc(retry, wake)
		}
		if address := node.address(); address != "" && !relaying {
			relaying = true
			go func() { log.Print(relay(ctx, address)) }()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			node.applied = ""
		case <-events:
			time.Sleep(settle)
		}
	}
}
