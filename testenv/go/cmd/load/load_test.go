package main

import (
	"context"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/watch"
)

// run loads the server until it has seen so many writes, and checks what is true whatever happened.
func measured(t *testing.T, s *server, writes int) *result {
	t.Helper()
	until, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		for until.Err() == nil {
			s.Lock()
			count, changed := len(s.events), s.changed
			s.Unlock()
			if count >= writes {
				stop()
				return
			}
			select {
			case <-changed:
			case <-time.After(time.Minute):
				stop()
			}
		}
	}()
	var once sync.Once
	started := false
	made, err := measure(until, s.config(), settings{
		rate: 200, maps: max(s.turns, 1), attempt: 5 * time.Second, window: 5 * time.Second, catchUp: 300 * time.Millisecond,
		running: func() { once.Do(func() { started = true }) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Lock()
	defer s.Unlock()
	if !started || s.namespace != "" {
		t.Errorf("it said that it runs: %v; its namespace is left: %q", started, s.namespace)
	}
	if len(s.events) < writes {
		t.Errorf("only %d writes", len(s.events))
	}
	sum := 0
	for verb, count := range s.answered {
		sum += count
		if made.Operations[verb] == 0 {
			t.Errorf("no operation %s", verb)
		}
	}
	if sum -= 2; made.Requests != sum { // the list from which the watch begins, and the last one
		t.Errorf("%d requests are counted, the server saw %d", made.Requests, sum)
	}
	return made
}

// after gives a fault for some requests of a verb.
func after(verb string, from, to int, what fault) func(string, int) fault {
	return func(seen string, count int) fault {
		if seen == verb && count >= from && count < to {
			return what
		}
		return none
	}
}

func wantNoFailure(t *testing.T, made *result) {
	t.Helper()
	if made.FailuresRaw != 0 || made.FailuresAfterRetries != 0 {
		t.Errorf("raw %v, after retries %v", made.Raw, made.AfterRetries)
	}
}

func wantWatch(t *testing.T, made *result, want watchResult) {
	t.Helper()
	want.Events, want.Kept = made.Watch.Events, made.Watch.Kept
	if made.Watch != want {
		t.Errorf("%+v, not %+v", made.Watch, want)
	}
}

func TestAnIdleServerIsWithoutFailure(t *testing.T) {
	s := newServer(t)
	made := measured(t, s, 14)
	wantNoFailure(t, made)
	wantWatch(t, made, watchResult{})
	if made.Watch.Events != len(s.events) {
		t.Errorf("%d events of %d", made.Watch.Events, len(s.events))
	}
}

func TestManyConfigMapsAreWrittenInTurns(t *testing.T) {
	s := newServer(t)
	s.turns = 5
	made := measured(t, s, 40) // 5 are created, each is patched 4 times and deleted, and a sixth comes
	wantNoFailure(t, made)
	if made.Watch.Kept < 4 || made.Watch.Kept > 5 || made.Watch.Lost != 0 || made.Operations["delete"] == 0 {
		t.Errorf("%+v, %v", made.Watch, made.Operations)
	}
}

func TestWhatIsNotAsItWasWrittenIsLost(t *testing.T) {
	l := newLedger()
	for _, name := range []string{"a", "b", "c"} {
		l.settle(l.intend(watch.Added, name, "1"), true)
		l.event(watch.Added, name, "1")
	}
	l.compared(map[string]string{"a": "1", "b": "0"})
	if seen := l.close(); seen != (watchResult{Events: 3, Kept: 1, Lost: 2}) {
		t.Errorf("%+v", seen)
	}
}

func TestALostConnectionIsARawFailureOnly(t *testing.T) {
	for _, verb := range []string{"get", "list", "create", "patch", "delete", "watch"} {
		t.Run(verb, func(t *testing.T) {
			s := newServer(t)
			from := 2
			if verb == "watch" {
				from = 1
			}
			s.fault = after(verb, from, from+1, hangUp)
			made := measured(t, s, 14)
			kinds := made.Raw[verb]
			if made.FailuresRaw != 1 || kinds["connection-reset"]+kinds["eof"]+kinds["connection-replaced"] != 1 || made.FailuresAfterRetries != 0 {
				t.Errorf("raw %v, after retries %v", made.Raw, made.AfterRetries)
			}
			wantWatch(t, made, watchResult{})
		})
	}
}

func TestARetryThatMeetsItsOwnSuccessIsNoFailure(t *testing.T) {
	for _, verb := range []string{"create", "patch", "delete"} {
		t.Run(verb, func(t *testing.T) {
			s := newServer(t)
			s.fault = after(verb, 2, 3, hangUpAfter)
			made := measured(t, s, 14)
			if made.FailuresRaw != 1 || made.FailuresAfterRetries != 0 || made.Watch.Missed != 0 || made.Watch.OutOfOrder != 0 {
				t.Errorf("raw %v, after retries %v, %+v", made.Raw, made.AfterRetries, made.Watch)
			}
		})
	}
}

func TestTooManyRequestsIsRetriedAsTheServerAsks(t *testing.T) {
	s := newServer(t)
	s.fault = after("patch", 2, 3, tooMany)
	made := measured(t, s, 10)
	if made.FailuresRaw != 1 || made.Raw["patch"]["http-429"] != 1 || made.FailuresAfterRetries != 0 {
		t.Errorf("raw %v, after retries %v", made.Raw, made.AfterRetries)
	}
	wantWatch(t, made, watchResult{})
}

func TestAnErrorThatNoClientRetriesIsAFailure(t *testing.T) {
	for what, kind := range map[fault]string{internal: "http-500", denied: "http-403"} {
		for _, verb := range []string{"get", "list", "create", "patch", "delete"} {
			t.Run(verb+" "+kind, func(t *testing.T) {
				s := newServer(t)
				s.fault = after(verb, 2, 3, what)
				made := measured(t, s, 14)
				if made.FailuresRaw != 1 || made.Raw[verb][kind] != 1 || made.FailuresAfterRetries != 1 || made.AfterRetries[verb][kind] != 1 {
					t.Errorf("raw %v, after retries %v", made.Raw, made.AfterRetries)
				}
				wantWatch(t, made, watchResult{})
			})
		}
	}
}

func TestRetriesEndWithTheirWindow(t *testing.T) {
	counts := newTally()
	c := &caller{tally: counts, attempt: time.Second, window: 250 * time.Millisecond}
	tries := 0
	err := c.do(context.Background(), "get", func(ctx context.Context) error {
		tries++
		return context.DeadlineExceeded
	}, nil)
	if err == nil || tries != 2 || counts.made.AfterRetries["get"]["timeout"] != 1 || counts.made.Operations["get"] != 1 {
		t.Errorf("%v after %d tries, %+v", err, tries, counts.made)
	}
}

func TestAWatchThatEndsIsResumedWithoutALoss(t *testing.T) {
	s := newServer(t)
	s.cutAfter = 3
	made := measured(t, s, 14)
	wantNoFailure(t, made)
	interruptions := made.Watch.Interruptions
	wantWatch(t, made, watchResult{Interruptions: interruptions})
	if interruptions < 4 || made.Watch.Events != len(s.events) {
		t.Errorf("%d interruptions, %d events of %d", interruptions, made.Watch.Events, len(s.events))
	}
}

func TestAWatchThatIsTooOldListsAgain(t *testing.T) {
	s := newServer(t)
	s.cutAfter = 3
	s.fault = func(verb string, count int) fault {
		if verb == "watch" {
			s.goneBefore = 0
			if count == 2 {
				s.goneBefore = s.version + 1
			}
		}
		return none
	}
	made := measured(t, s, 14)
	wantNoFailure(t, made)
	if w := made.Watch; w.Relists != 1 || w.Missed+w.OutOfOrder+w.Unexpected != 0 || w.Events+w.Unwatched != len(s.events) {
		t.Errorf("%+v of %d", w, len(s.events))
	}
}

func TestAnEventThatNeverComesIsMissed(t *testing.T) {
	s := newServer(t)
	s.rewrite = func(count int, one event) []event {
		if count == 4 {
			return nil
		}
		return []event{one}
	}
	made := measured(t, s, 14)
	wantNoFailure(t, made)
	wantWatch(t, made, watchResult{Missed: 1})
}

func TestTheLastEventIsMissedToo(t *testing.T) {
	s := newServer(t)
	s.rewrite = func(count int, one event) []event {
		if count >= 10 {
			return nil
		}
		return []event{one}
	}
	made := measured(t, s, 14)
	wantWatch(t, made, watchResult{Missed: len(s.events) - 10})
}

func TestEventsInTheWrongOrderOrTwiceAreSaid(t *testing.T) {
	s := newServer(t)
	var held []event
	s.rewrite = func(count int, one event) []event {
		switch count {
		case 4:
			held = []event{one}
			return nil
		case 5:
			return append([]event{one}, held...)
		case 8:
			return []event{one, one}
		}
		return []event{one}
	}
	made := measured(t, s, 14)
	wantWatch(t, made, watchResult{OutOfOrder: 1, Unexpected: 1})
}

func TestTheLedgerLeavesOpenWhatNobodyKnows(t *testing.T) {
	l := newLedger()
	l.settle(l.intend(watch.Added, "a", "1"), true)
	l.settle(l.intend(watch.Modified, "a", "2"), false) // may have happened
	l.settle(l.intend(watch.Modified, "a", "3"), true)
	l.event(watch.Added, "a", "1")
	l.event(watch.Modified, "a", "3")
	if seen := l.close(); seen != (watchResult{Events: 2}) {
		t.Errorf("%+v", seen)
	}
}

func TestARelistThatContradictsAWriteIsSaid(t *testing.T) {
	l := newLedger()
	l.settle(l.intend(watch.Added, "a", "1"), true)
	l.settle(l.intend(watch.Added, "b", "2"), true)
	l.settle(l.intend(watch.Added, "c", "3"), false)
	l.listed(map[string]string{"a": "1", "c": "3", "d": "4"})
	if seen := l.close(); seen != (watchResult{Relists: 1, Unwatched: 2, Missed: 1, Unexpected: 1}) {
		t.Errorf("%+v", seen)
	}
}
