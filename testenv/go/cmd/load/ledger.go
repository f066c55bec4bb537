package main

import (
	"sync"

	"k8s.io/apimachinery/pkg/watch"
)

// write is one write of which the watch must tell.
type write struct {
	event   watch.EventType
	name    string
	number  string // the written content; a deletion has none
	settled bool
	sure    bool // the server said that it was done; otherwise nobody knows
}

// ledger compares writes with events. Writes come from one goroutine, one after the other, so their events have one
// right order.
type ledger struct {
	sync.Mutex
	due   []*write            // no event yet, in order
	late  []*write            // an event of a later write came before
	alive map[string]string   // what must exist now: name and content
	vague map[string]struct{} // names of which nobody knows
	seen  watchResult
}

func newLedger() *ledger {
	return &ledger{alive: map[string]string{}, vague: map[string]struct{}{}}
}

// intend is called before a write is sent, because its event may come before its answer.
func (l *ledger) intend(event watch.EventType, name, number string) *write {
	l.Lock()
	defer l.Unlock()
	w := &write{event: event, name: name, number: number}
	l.due = append(l.due, w)
	return w
}

func (l *ledger) settle(w *write, sure bool) {
	l.Lock()
	defer l.Unlock()
	w.settled, w.sure = true, sure
	switch {
	case !sure:
		l.vague[w.name] = struct{}{}
		delete(l.alive, w.name)
	case w.event == watch.Deleted:
		delete(l.alive, w.name)
	default:
		l.alive[w.name] = w.number
		delete(l.vague, w.name)
	}
}

func (w *write) is(event watch.EventType, name, number string) bool {
	return w.event == event && w.name == name && (event == watch.Deleted || w.number == number)
}

func (l *ledger) event(event watch.EventType, name, number string) {
	l.Lock()
	defer l.Unlock()
	l.seen.Events++
	for i, w := range l.due {
		if !w.is(event, name, number) {
			continue
		}
		for _, passed := range l.due[:i] {
			if passed.sure || !passed.settled {
				l.late = append(l.late, passed)
			}
		}
		l.due = l.due[i+1:]
		return
	}
	for i, w := range l.late {
		if w.is(event, name, number) {
			l.late = append(l.late[:i], l.late[i+1:]...)
			l.seen.OutOfOrder++
			return
		}
	}
	l.seen.Unexpected++
}

// listed takes what exists instead of the events that cannot come any more. Nothing may be written meanwhile.
func (l *ledger) listed(exists map[string]string) {
	l.Lock()
	defer l.Unlock()
	l.seen.Relists++
	for _, w := range l.due {
		if w.sure {
			l.seen.Unwatched++
		}
	}
	l.due = nil
	for name, number := range l.alive {
		if exists[name] != number {
			l.seen.Missed++
		}
	}
	for name := range exists {
		_, vague := l.vague[name]
		if _, ok := l.alive[name]; !ok && !vague {
			l.seen.Unexpected++
		}
	}
}

// compared takes what exists when all is over: each ConfigMap with what was written last.
func (l *ledger) compared(exists map[string]string) {
	l.Lock()
	defer l.Unlock()
	for name, number := range l.alive {
		if exists[name] == number {
			l.seen.Kept++
		} else {
			l.seen.Lost++
		}
	}
}

// open is the number of writes whose event must still come.
func (l *ledger) open() (count int) {
	l.Lock()
	defer l.Unlock()
	for _, w := range l.due {
		if w.sure {
			count++
		}
	}
	return count
}

// close counts what has not come as missed.
func (l *ledger) close() watchResult {
	missed := l.open()
	l.Lock()
	defer l.Unlock()
	for _, w := range l.late {
		if w.sure {
			missed++
		}
	}
	seen := l.seen
	seen.Missed += missed
	return seen
}

func (l *ledger) interrupted() {
	l.Lock()
	defer l.Unlock()
	l.seen.Interruptions++
}
