package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// byVerb counts failures: verb, then kind.
type byVerb map[string]map[string]int

func (b byVerb) add(verb, kind string) {
	if b[verb] == nil {
		b[verb] = map[string]int{}
	}
	b[verb][kind]++
}

func (b byVerb) sum() (sum int) {
	for _, kinds := range b {
		for _, count := range kinds {
			sum += count
		}
	}
	return sum
}

// result is the document that is printed.
type result struct {
	Schema  string  `json:"schema"`
	Seconds float64 `json:"seconds"`
	// HTTP attempts, retries included.
	Requests int `json:"requests"`
	// What a caller asked for, each of one or more attempts.
	Operations map[string]int `json:"operations"`
	// Attempts that failed.
	FailuresRaw int    `json:"failures_raw"`
	Raw         byVerb `json:"raw"`
	// Operations that failed although they were tried again as clients do.
	FailuresAfterRetries int    `json:"failures_after_retries"`
	AfterRetries         byVerb `json:"after_retries"`
	// Paged lists whose continuation was answered with 410, and which began again.
	ExpiredLists int         `json:"expired_lists"`
	Watch        watchResult `json:"watch"`
}

// watchResult says how the watch's events compare with the writes.
type watchResult struct {
	Events int `json:"events"`
	// The stream ended and was resumed where it was.
	Interruptions int `json:"interruptions"`
	// It could not be resumed there (410): all was listed again, and Unwatched writes were seen in that list only.
	Relists   int `json:"relists"`
	Unwatched int `json:"unwatched"`
	// Writes whose event never came, came after that of a later write, or events of no write.
	Missed     int `json:"missed"`
	OutOfOrder int `json:"out_of_order"`
	Unexpected int `json:"unexpected"`
	// ConfigMaps that had at the end what was written last, and those that had not.
	Kept int `json:"kept"`
	Lost int `json:"lost"`
}

// tally counts from many goroutines.
type tally struct {
	sync.Mutex
	made result
}

func newTally() *tally {
	return &tally{made: result{
		Schema:       "testenv/load/v1",
		Operations:   map[string]int{},
		Raw:          byVerb{},
		AfterRetries: byVerb{},
	}}
}

func (t *tally) with(change func(*result)) {
	t.Lock()
	defer t.Unlock()
	change(&t.made)
}

func (t *tally) raw(verb, kind string) { t.with(func(r *result) { r.Raw.add(verb, kind) }) }

type verbKey struct{}

// answeredKey marks where a watch learns that the server answered it. client-go makes an empty watch of an answer that
// never came.
type answeredKey struct{}

// as marks requests as an operation's; what is not marked is not counted, such as setting up and cleaning up.
func as(ctx context.Context, verb string) context.Context {
	return context.WithValue(ctx, verbKey{}, verb)
}

// counting sees every HTTP attempt, also those that client-go makes by itself.
type counting struct {
	next  http.RoundTripper
	tally *tally
}

func (c *counting) RoundTrip(request *http.Request) (*http.Response, error) {
	verb, _ := request.Context().Value(verbKey{}).(string)
	if verb == "" {
		return c.next.RoundTrip(request)
	}
	// A reused connection that turns out to be dead is replaced without a word. Every connection after the first is an
	// attempt that failed.
	var connections atomic.Int32
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connections.Add(1) }}
	response, err := c.next.RoundTrip(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
	c.tally.with(func(r *result) { r.Requests++ })
	for range connections.Load() - 1 {
		c.tally.with(func(r *result) { r.Requests++ })
		c.tally.raw(verb, "connection-replaced")
	}
	switch {
	case err != nil:
		if !errors.Is(err, context.Canceled) { // ended by us
			c.tally.raw(verb, kindOf(err))
		}
	case failedStatus(response.StatusCode):
		c.tally.raw(verb, fmt.Sprintf("http-%d", response.StatusCode))
	case verb != "watch": // a watch's end is an interruption
		response.Body = &countedBody{ReadCloser: response.Body, verb: verb, tally: c.tally}
	default:
		if answered, ok := request.Context().Value(answeredKey{}).(*atomic.Bool); ok {
			answered.Store(true)
		}
	}
	return response, err
}

// What only the operation can judge is not a failure here: a second try may meet the first one's success
// (404 after a delete, 409 after a create), and 410 has figures of its own.
func failedStatus(code int) bool {
	switch code {
	case http.StatusNotFound, http.StatusConflict, http.StatusGone:
		return false
	}
	return code >= 400
}

// countedBody counts an answer that breaks off.
type countedBody struct {
	io.ReadCloser
	verb   string
	tally  *tally
	broken bool
}

func (b *countedBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if err != nil && err != io.EOF && !errors.Is(err, context.Canceled) && !b.broken {
		b.broken = true
		b.tally.raw(b.verb, kindOf(err))
	}
	return n, err
}

func kindOf(err error) string {
	var status apierrors.APIStatus
	switch {
	case errors.As(err, &status):
		return fmt.Sprintf("http-%d", status.Status().Code)
	case utilnet.IsConnectionRefused(err):
		return "connection-refused"
	case utilnet.IsConnectionReset(err) || errors.Is(err, syscall.EPIPE):
		return "connection-reset"
	case utilnet.IsHTTP2ConnectionLost(err):
		return "connection-lost"
	case utilnet.IsProbableEOF(err):
		return "eof"
	case errors.Is(err, context.DeadlineExceeded) || utilnet.IsTimeout(err):
		return "timeout"
	}
	return "other"
}

// retryable errors are those of a connection, and timeouts. client-go itself has already tried again what the
// server asked to be tried again.
func retryable(err error) bool {
	switch kindOf(err) {
	case "connection-refused", "connection-reset", "connection-lost", "eof", "timeout":
		return true
	}
	return apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err)
}

// caller runs operations with the retries that clients have.
type caller struct {
	tally   *tally
	attempt time.Duration // one attempt may take as long
	window  time.Duration // tries go on so long after the first failure
}

// do returns nil, or the error of the last attempt. known says which errors are an answer; it is told the number of
// attempts before.
func (c *caller) do(ctx context.Context, verb string, try func(context.Context) error, known func(err error, before int) bool) error {
	c.tally.with(func(r *result) { r.Operations[verb]++ })
	var first time.Time
	delay := 100 * time.Millisecond
	for before := 0; ; before++ {
		attempt, cancel := context.WithTimeout(as(ctx, verb), c.attempt)
		err := try(attempt)
		cancel()
		if err == nil || known != nil && known(err, before) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		kind := kindOf(err)
		if code := statusCode(err); code != 0 && !failedStatus(code) {
			c.tally.raw(verb, kind) // the transport left it to us
		}
		if first.IsZero() {
			first = time.Now()
		}
		if !retryable(err) || time.Since(first)+delay > c.window {
			c.tally.with(func(r *result) { r.AfterRetries.add(verb, kind) })
			return err
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		}
		delay = min(2*delay, 2*time.Second)
	}
}

func statusCode(err error) int {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return int(status.Status().Code)
	}
	return 0
}
