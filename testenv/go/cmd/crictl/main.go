// Command crictl is a small stand-in for the program of that name: what kind calls,
// and what a person asks for on a node when something is wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	socket  = "unix:///run/containerd/containerd.sock"
	timeout = 10 * time.Second
	usage   = `usage: crictl inspecti IMAGE | images | pods | ps [-a] [--name REGEX] | logs CONTAINER | version
-o json prints images, pods and ps as JSON`
)

func main() {
	out := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	err := run(out, os.Args[1:])
	_ = out.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, "crictl:", err)
		os.Exit(1)
	}
}

type options struct {
	all  bool
	name string
	json bool
}

func run(out io.Writer, args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	var o options
	var format string
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprintln(os.Stderr, usage) }
	flags.BoolVar(&o.all, "a", false, "")
	flags.BoolVar(&o.all, "all", false, "")
	flags.StringVar(&o.name, "name", "", "")
	flags.StringVar(&format, "o", "table", "")
	flags.StringVar(&format, "output", "table", "")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if format != "table" && format != "json" {
		return fmt.Errorf("unknown output %q: table or json", format)
	}
	o.json = format == "json"

	connection, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	runtime, images := cri.NewRuntimeServiceClient(connection), cri.NewImageServiceClient(connection)
	switch args[0] {
	case "inspecti":
		return inspectImage(ctx, out, images, flags.Arg(0))
	case "images", "image":
		return listImages(ctx, out, images, o)
	case "ps":
		return listContainers(ctx, out, runtime, o)
	case "pods":
		return listPods(ctx, out, runtime, o)
	case "logs":
		return logs(ctx, out, runtime, flags.Arg(0))
	case "version":
		v, err := runtime.Version(ctx, &cri.VersionRequest{})
		if err == nil {
			fmt.Fprintf(out, "RuntimeName:  %s\nRuntimeVersion:  %s\nRuntimeApiVersion:  %s\n", v.RuntimeName, v.RuntimeVersion, v.RuntimeApiVersion)
		}
		return err
	}
	return errors.New(usage)
}

func printJSON(out io.Writer, message proto.Message) error {
	text, err := protojson.MarshalOptions{EmitUnpopulated: true, Multiline: true}.Marshal(message)
	if err == nil {
		_, err = fmt.Fprintln(out, string(text))
	}
	return err
}

func inspectImage(ctx context.Context, out io.Writer, images cri.ImageServiceClient, name string) error {
	if name == "" {
		return errors.New(usage)
	}
	answer, err := images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
	if err != nil {
		return err
	}
	if answer.Image == nil {
		return fmt.Errorf("no such image %q present", name)
	}
	// kind looks for status.id
	return printJSON(out, &cri.ImageStatusResponse{Image: answer.Image})
}

func listImages(ctx context.Context, out io.Writer, images cri.ImageServiceClient, o options) error {
	answer, err := images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(out, answer)
	}
	fmt.Fprintln(out, "IMAGE\tIMAGE ID\tSIZE")
	for _, image := range answer.Images {
		for _, tag := range image.RepoTags {
			fmt.Fprintf(out, "%s\t%s\t%.1fMB\n", tag, short(image.Id), float64(image.Size)/1e6)
		}
	}
	return nil
}

func listContainers(ctx context.Context, out io.Writer, runtime cri.RuntimeServiceClient, o options) error {
	name, err := regexp.Compile(o.name)
	if err != nil {
		return err
	}
	filter := &cri.ContainerFilter{}
	if !o.all {
		filter.State = &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}
	}
	answer, err := runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: filter})
	if err != nil {
		return err
	}
	var found []*cri.Container
	for _, c := range answer.Containers {
		if name.MatchString(c.GetMetadata().GetName()) {
			found = append(found, c)
		}
	}
	if o.json {
		return printJSON(out, &cri.ListContainersResponse{Containers: found})
	}
	fmt.Fprintln(out, "CONTAINER\tCREATED\tSTATE\tNAME\tATTEMPT\tPOD ID\tPOD")
	for _, c := range found {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", short(c.Id), age(c.CreatedAt), state(c.State.String()),
			c.GetMetadata().GetName(), c.GetMetadata().GetAttempt(), short(c.PodSandboxId), c.Labels["io.kubernetes.pod.name"])
	}
	return nil
}

func listPods(ctx context.Context, out io.Writer, runtime cri.RuntimeServiceClient, o options) error {
	answer, err := runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(out, answer)
	}
	fmt.Fprintln(out, "POD ID\tCREATED\tSTATE\tNAME\tNAMESPACE")
	for _, p := range answer.Items {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", short(p.Id), age(p.CreatedAt), state(p.State.String()),
			p.GetMetadata().GetName(), p.GetMetadata().GetNamespace())
	}
	return nil
}

// logs prints a container's log file as the kubelet keeps it, time stamps included.
func logs(ctx context.Context, out io.Writer, runtime cri.RuntimeServiceClient, prefix string) error {
	if prefix == "" {
		return errors.New(usage)
	}
	answer, err := runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{Id: prefix}})
	if err != nil {
		return err
	}
	if len(answer.Containers) != 1 {
		return fmt.Errorf("%d containers have an ID that starts with %q", len(answer.Containers), prefix)
	}
	status, err := runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: answer.Containers[0].Id})
	if err != nil {
		return err
	}
	file, err := os.Open(status.Status.LogPath)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(out, file)
	return err
}

func short(id string) string { return fmt.Sprintf("%.13s", strings.TrimPrefix(id, "sha256:")) }

func age(created int64) string {
	return time.Since(time.Unix(0, created)).Round(time.Second).String() + " ago"
}

// state turns CONTAINER_RUNNING into Running and SANDBOX_NOTREADY into Notready.
func state(name string) string {
	_, word, _ := strings.Cut(name, "_")
	return word[:1] + strings.ToLower(word[1:])
}
