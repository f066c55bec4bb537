package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

type settings struct {
	rate                     float64
	maps                     int // that are written at the same time
	attempt, window, catchUp time.Duration
	running, ending          func()
}

const (
	role     = "testenv-load" // a label: what a ConfigMap is for
	standing = 12             // ConfigMaps that are read and listed
	page     = 5
	readers  = 4
	patches  = 4 // of one written ConfigMap
)

// load is one run.
type load struct {
	*caller
	maps    typedcorev1.ConfigMapInterface
	ledger  *ledger
	writing sync.Mutex // held for one write, and for a list that stands for events
}

// measure works until the context is done, and then brings everything to its end.
func measure(until context.Context, config *rest.Config, s settings) (*result, error) {
	counts := newTally()
	config = rest.CopyConfig(config)
	config.QPS = -1 // the rate is kept here
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &counting{next, counts} })
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	// What is under way when the load ends is not cut off: the second signal, which kills, does that.
	ctx := context.Background()
	namespace, err := setUp(until, client)
	if namespace != "" {
		defer cleanUp(client, namespace)
	}
	if err != nil {
		return nil, err
	}
	l := &load{
		caller: &caller{tally: counts, attempt: s.attempt, window: s.window},
		maps:   client.CoreV1().ConfigMaps(namespace),
		ledger: newLedger(),
	}
	watching, stopWatch := context.WithCancel(ctx)
	defer stopWatch()
	var watcher, workers sync.WaitGroup
	from, err := l.list(as(ctx, ""), nil)
	if err != nil {
		return nil, err
	}
	watched := make(chan struct{})
	watcher.Add(1)
	go func() {
		defer watcher.Done()
		l.watch(watching, from, sync.OnceFunc(func() { close(watched) }))
	}()
	select {
	case <-watched:
	case <-until.Done():
	}
	begin := time.Now()
	work := func(share float64, step func(context.Context)) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			ticks := time.NewTicker(time.Duration(float64(time.Second) / (s.rate * share)))
			defer ticks.Stop()
			for {
				select {
				case <-ticks.C:
				case <-until.Done():
					return
				}
				if until.Err() == nil {
					step(ctx)
				}
			}
		}()
	}
	for range readers {
		work(0.5/readers, l.read)
	}
	work(0.2, l.pages())
	work(0.3, l.writes(s.maps))
	s.running()
	<-until.Done()
	if s.ending != nil {
		s.ending()
	}
	seconds := time.Since(begin).Seconds()
	workers.Wait()
	for end := time.Now().Add(s.catchUp); l.ledger.open() > 0 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	stopWatch()
	watcher.Wait()
	if _, err := l.list(as(ctx, ""), l.ledger.compared); err != nil {
		return nil, fmt.Errorf("what was written cannot be listed at the end: %w", err)
	}
	counts.Lock()
	defer counts.Unlock()
	made := counts.made
	made.Seconds = seconds
	made.Watch = l.ledger.close()
	made.FailuresRaw, made.FailuresAfterRetries = made.Raw.sum(), made.AfterRetries.sum()
	return &made, nil
}

func setUp(ctx context.Context, client kubernetes.Interface) (namespace string, err error) {
	made, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "testenv-load-"},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	for i := range standing {
		if _, err := client.CoreV1().ConfigMaps(made.Name).Create(ctx, configMap(standingName(i), "standing", "0"), metav1.CreateOptions{}); err != nil {
			return made.Name, err
		}
	}
	return made.Name, nil
}

// cleanUp tries for a minute: the cluster may be what is tested.
func cleanUp(client kubernetes.Interface, namespace string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		err := client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) || ctx.Err() != nil {
			return
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func standingName(i int) string { return fmt.Sprintf("standing-%d", i) }

func configMap(name, purpose, number string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{role: purpose}},
		Data:       map[string]string{"number": number},
	}
}

func (l *load) read(ctx context.Context) {
	_ = l.do(ctx, "get", func(ctx context.Context) error {
		_, err := l.maps.Get(ctx, standingName(0), metav1.GetOptions{})
		return err
	}, nil)
}

// pages gives steps that each get one page of a list. A list that is not all there is a failure of its own kind.
func (l *load) pages() func(context.Context) {
	var next string
	var seen int
	return func(ctx context.Context) {
		var got *corev1.ConfigMapList
		err := l.do(ctx, "list", func(ctx context.Context) (err error) {
			got, err = l.maps.List(ctx, metav1.ListOptions{LabelSelector: role + "=standing", Limit: page, Continue: next})
			return err
		}, func(err error, _ int) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) })
		if err != nil {
			if statusCode(err) == http.StatusGone {
				l.tally.with(func(r *result) { r.ExpiredLists++ })
			}
			next, seen = "", 0
			return
		}
		seen += len(got.Items)
		if next = got.Continue; next == "" {
			if seen != standing {
				l.tally.with(func(r *result) {
					r.Raw.add("list", "incomplete")
					r.AfterRetries.add("list", "incomplete")
				})
			}
			seen = 0
		}
	}
}

// writes gives steps that each write once. So many ConfigMaps exist at a time, and each is created, patched a few times,
// and deleted; they take turns.
func (l *load) writes(maps int) func(context.Context) {
	type written struct {
		name    string
		patched int
	}
	var turns []written
	var count int
	return func(ctx context.Context) {
		l.writing.Lock()
		defer l.writing.Unlock()
		count++
		number := strconv.Itoa(count)
		if len(turns) < maps {
			name := "written-" + number
			w := l.ledger.intend(watch.Added, name, number)
			err := l.do(ctx, "create", func(ctx context.Context) error {
				_, err := l.maps.Create(ctx, configMap(name, "written", number), metav1.CreateOptions{})
				return err
			}, func(err error, before int) bool { return before > 0 && apierrors.IsAlreadyExists(err) })
			done := err == nil || apierrors.IsAlreadyExists(err)
			if l.ledger.settle(w, done); done {
				turns = append(turns, written{name: name})
			}
			return
		}
		next := turns[0]
		turns = turns[1:]
		if next.patched < patches {
			next.patched++
			turns = append(turns, next)
			w := l.ledger.intend(watch.Modified, next.name, number)
			err := l.do(ctx, "patch", func(ctx context.Context) error {
				_, err := l.maps.Patch(ctx, next.name, types.MergePatchType, []byte(`{"data":{"number":"`+number+`"}}`), metav1.PatchOptions{})
				return err
			}, nil)
			l.ledger.settle(w, err == nil)
			return
		}
		w := l.ledger.intend(watch.Deleted, next.name, "")
		err := l.do(ctx, "delete", func(ctx context.Context) error {
			return l.maps.Delete(ctx, next.name, metav1.DeleteOptions{})
		}, func(err error, before int) bool { return before > 0 && apierrors.IsNotFound(err) })
		l.ledger.settle(w, err == nil || apierrors.IsNotFound(err))
	}
}
