package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// list returns where a watch may begin; `each` gets what exists there.
func (l *load) list(ctx context.Context, each func(map[string]string)) (version string, err error) {
	got, err := l.maps.List(ctx, metav1.ListOptions{LabelSelector: role + "=written"})
	if err != nil {
		return "", err
	}
	if each != nil {
		exists := map[string]string{}
		for _, item := range got.Items {
			exists[item.Name] = item.Data["number"]
		}
		each(exists)
	}
	return got.ResourceVersion, nil
}

// watch follows the written ConfigMaps until the context is done.
func (l *load) watch(ctx context.Context, version string, opened func()) {
	for ctx.Err() == nil {
		stream, err := l.open(ctx, version)
		gone := statusCode(err) == http.StatusGone
		if err == nil {
			opened()
			version, gone = l.follow(ctx, stream, version)
			if ctx.Err() != nil {
				return
			}
			l.ledger.interrupted()
		}
		if gone {
			version = l.again(ctx, version)
		}
		select { // a stream that ends at once must not become a storm
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// open starts the stream. Its context ends with the stream, so the attempt's time is kept by a timer.
func (l *load) open(ctx context.Context, version string) (stream watch.Interface, err error) {
	err = l.do(ctx, "watch", func(context.Context) error {
		answered := &atomic.Bool{}
		attempt, cancel := context.WithCancelCause(context.WithValue(as(ctx, "watch"), answeredKey{}, answered))
		timer := time.AfterFunc(l.attempt, func() { cancel(context.DeadlineExceeded) })
		opened, err := l.maps.Watch(attempt, metav1.ListOptions{
			LabelSelector: role + "=written", ResourceVersion: version, AllowWatchBookmarks: true,
		})
		if !timer.Stop() && ctx.Err() == nil {
			if err == nil {
				opened.Stop()
			}
			l.tally.raw("watch", "timeout") // the transport saw only that we cancelled
			err = context.DeadlineExceeded
		}
		if err == nil && !answered.Load() {
			err = io.EOF
		}
		if err != nil {
			cancel(nil)
			return err
		}
		stream = &ending{opened, func() { cancel(nil) }}
		return nil
	}, func(err error, _ int) bool { return statusCode(err) == http.StatusGone })
	return stream, err
}

type ending struct {
	watch.Interface
	end func()
}

func (e *ending) Stop() {
	e.Interface.Stop()
	e.end()
}

// follow returns where to go on when the stream has ended, and whether that is no longer possible.
func (l *load) follow(ctx context.Context, stream watch.Interface, version string) (string, bool) {
	defer stream.Stop()
	for {
		select {
		case <-ctx.Done():
			return version, false
		case event, ok := <-stream.ResultChan():
			if !ok {
				return version, false
			}
			item, isMap := event.Object.(*corev1.ConfigMap)
			switch {
			case event.Type == watch.Error || !isMap:
				return version, statusCode(apierrors.FromObject(event.Object)) == http.StatusGone
			case event.Type != watch.Bookmark:
				l.ledger.event(event.Type, item.Name, item.Data["number"])
			}
			version = item.ResourceVersion
		}
	}
}

// again lists instead of watching, while nothing is written.
func (l *load) again(ctx context.Context, version string) string {
	l.writing.Lock()
	defer l.writing.Unlock()
	err := l.do(ctx, "list", func(ctx context.Context) (err error) {
		from, err := l.list(ctx, l.ledger.listed)
		if err == nil {
			version = from
		}
		return err
	}, nil)
	if err != nil && !errors.Is(err, context.Canceled) {
		return version // the watch will be refused again, and this tried again
	}
	return version
}
