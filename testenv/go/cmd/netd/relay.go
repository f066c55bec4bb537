package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	resolver   = "127.0.0.11:53" // docker's, reachable from the node's own network namespace only
	maxQueries = 256             // at a time; beyond that the client has to ask again
	udpTimeout = 5 * time.Second
	tcpTimeout = 10 * time.Second
)

// relay hands questions that arrive at the node's address to docker's resolver until ctx ends.
func relay(ctx context.Context, address string) error {
	listen := net.JoinHostPort(address, "53")
	packets, err := net.ListenPacket("udp4", listen)
	if err != nil {
		return fmt.Errorf("name relay: %w", err)
	}
	streams, err := net.Listen("tcp4", listen)
	if err != nil {
		packets.Close()
		return fmt.Errorf("name relay: %w", err)
	}
	go func() { <-ctx.Done(); packets.Close(); streams.Close() }()
	go func() {
		for {
			client, err := streams.Accept()
			if err != nil {
				return
			}
			go relayStream(client)
		}
	}()
	slots := make(chan struct{}, maxQueries)
	buffer := make([]byte, 65535)
	for {
		n, client, err := packets.ReadFrom(buffer)
		if err != nil {
			return nil
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		question := append([]byte(nil), buffer[:n]...)
		go func() {
			defer func() { <-slots }()
			if answer, err := ask(question); err == nil {
				_, _ = packets.WriteTo(answer, client)
			}
		}()
	}
}

func ask(question []byte) ([]byte, error) {
	upstream, err := net.Dial("udp4", resolver)
	if err != nil {
		return nil, err
	}
	defer upstream.Close()
	_ = upstream.SetDeadline(time.Now().Add(udpTimeout))
	if _, err := upstream.Write(question); err != nil {
		return nil, err
	}
	answer := make([]byte, 65535)
	n, err := upstream.Read(answer)
	return answer[:n], err
}

func relayStream(client net.Conn) {
	defer client.Close()
	upstream, err := net.DialTimeout("tcp4", resolver, tcpTimeout)
	if err != nil {
		return
	}
	defer upstream.Close()
	deadline := time.Now().Add(tcpTimeout)
	_ = client.SetDeadline(deadline)
	_ = upstream.SetDeadline(deadline)
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{upstream, client}, {client, upstream}} {
		go func() { _, _ = io.Copy(pair[0], pair[1]); done <- struct{}{} }()
	}
	<-done
}
