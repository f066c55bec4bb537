package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// server is as much of an API server as the load needs, and fails on demand.
type server struct {
	sync.Mutex
	*httptest.Server
	version    int
	maps       map[string]*corev1.ConfigMap
	events     []event // of written ConfigMaps
	namespace  string  // exists
	watches    int
	turns      int            // ConfigMaps that the client shall write at the same time; 0 is 1
	answered   map[string]int // by verb
	changed    chan struct{}  // closed when something happened
	fault      func(verb string, count int) fault
	cutAfter   int                                // a watch ends after so many events; 0 is never
	goneBefore int                                // a watch from an earlier version is answered with 410
	rewrite    func(count int, one event) []event // what the watch tells instead
}

type event struct {
	Type   string            `json:"type"`
	Object *corev1.ConfigMap `json:"object"`
}

type fault int

const (
	none        fault = iota
	hangUp            // close the connection without an answer
	hangUpAfter       // the same, but do what was asked
	tooMany           // 429 with Retry-After
	internal          // 500
	denied            // 403
)

func newServer(t *testing.T) *server {
	t.Parallel() // what takes time is waiting
	s := &server{version: 10, maps: map[string]*corev1.ConfigMap{}, answered: map[string]int{}, changed: make(chan struct{})}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// JSON, not the protobuf that client-go speaks otherwise.
func (s *server) config() *rest.Config {
	return &rest.Config{Host: s.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

func verbOf(r *http.Request) string {
	switch {
	case r.URL.Query().Get("watch") == "true":
		return "watch"
	case strings.HasSuffix(r.URL.Path, "/configmaps") && r.Method == http.MethodGet:
		return "list"
	case r.Method == http.MethodPost:
		return "create"
	}
	return strings.ToLower(r.Method)
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	verb := verbOf(r)
	s.Lock()
	defer s.Unlock()
	done := none
	// what sets up and cleans up is spared: all that is about the namespace or about standing ConfigMaps but reading them
	var body corev1.ConfigMap
	if verb == "create" {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			panic(err)
		}
	}
	if strings.Contains(r.URL.Path, "/configmaps") && !strings.HasPrefix(body.Name, "standing") {
		s.answered[verb]++
		if s.fault != nil {
			done = s.fault(verb, s.answered[verb])
		}
	}
	switch done {
	case hangUp:
		drop(w)
		return
	case hangUpAfter:
		s.answer(httptest.NewRecorder(), r, verb, &body)
		drop(w)
		return
	case tooMany:
		w.Header().Set("Retry-After", "1")
		refuse(w, 429, metav1.StatusReasonTooManyRequests)
		return
	case internal:
		refuse(w, 500, metav1.StatusReasonInternalError)
		return
	case denied:
		refuse(w, 403, metav1.StatusReasonForbidden)
		return
	}
	if verb == "watch" {
		s.follow(w, r)
		return
	}
	s.answer(w, r, verb, &body)
}

func drop(w http.ResponseWriter) {
	connection, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = connection.(*net.TCPConn).SetLinger(0) // a reset
	connection.Close()
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	say(w, code, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: int32(code), Reason: reason,
	})
}

func say(w http.ResponseWriter, code int, what any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(what)
}

func (s *server) answer(w http.ResponseWriter, r *http.Request, verb string, body *corev1.ConfigMap) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/") // api v1 namespaces NS configmaps NAME
	if len(parts) < 5 {
		s.answerNamespace(w, r)
		return
	}
	name := ""
	if len(parts) == 6 {
		name = parts[5]
	}
	found := s.maps[name]
	if name != "" && found == nil {
		refuse(w, 404, metav1.StatusReasonNotFound)
		return
	}
	switch verb {
	case "get":
		say(w, 200, found)
	case "list":
		s.list(w, r)
	case "create":
		if s.maps[body.Name] != nil {
			refuse(w, 409, metav1.StatusReasonAlreadyExists)
			return
		}
		say(w, 201, s.happened("ADDED", body))
	case "patch":
		var patch corev1.ConfigMap
		_ = json.NewDecoder(r.Body).Decode(&patch)
		changed := found.DeepCopy()
		changed.Data = patch.Data
		say(w, 200, s.happened("MODIFIED", changed))
	case "delete":
		s.happened("DELETED", found.DeepCopy())
		say(w, 200, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Success"})
	}
}

func (s *server) answerNamespace(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		s.namespace = "testenv-load-x"
		say(w, 201, corev1.Namespace{TypeMeta: metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: s.namespace}})
	case s.namespace == "":
		refuse(w, 404, metav1.StatusReasonNotFound)
	default:
		s.namespace = ""
		say(w, 200, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Success"})
	}
}

// happened keeps a change, and is the moment at which watches learn of it.
func (s *server) happened(kind string, item *corev1.ConfigMap) *corev1.ConfigMap {
	s.version++
	item.TypeMeta = metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"}
	item.ResourceVersion = strconv.Itoa(s.version)
	if s.maps[item.Name] = item; kind == "DELETED" {
		delete(s.maps, item.Name)
	}
	if item.Labels[role] == "written" {
		s.events = append(s.events, event{kind, item})
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return item
}

func (s *server) list(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	answer := corev1.ConfigMapList{
		TypeMeta: metav1.TypeMeta{Kind: "ConfigMapList", APIVersion: "v1"},
		ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.version)},
	}
	if strings.HasSuffix(query.Get("labelSelector"), "=written") {
		for _, item := range s.maps {
			if item.Labels[role] == "written" {
				answer.Items = append(answer.Items, *item)
			}
		}
		say(w, 200, answer)
		return
	}
	first, _ := strconv.Atoi(query.Get("continue"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	for i := first; i < min(first+limit, standing); i++ {
		answer.Items = append(answer.Items, *s.maps[standingName(i)])
	}
	if first+limit < standing {
		answer.Continue = strconv.Itoa(first + limit)
	}
	say(w, 200, answer)
}

// follow is called with the lock and returns with it.
func (s *server) follow(w http.ResponseWriter, r *http.Request) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	s.watches++
	if from < s.goneBefore {
		refuse(w, 410, metav1.StatusReasonExpired)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(200)
	w.(http.Flusher).Flush()
	told := 0
	for next := 0; ; {
		for ; next < len(s.events); next++ {
			one := s.events[next]
			if version, _ := strconv.Atoi(one.Object.ResourceVersion); version <= from {
				continue
			}
			tell := []event{one}
			if s.rewrite != nil {
				tell = s.rewrite(next, one)
			}
			for _, one := range tell {
				text, _ := json.Marshal(one)
				fmt.Fprintf(w, "%s\n", text)
			}
			w.(http.Flusher).Flush()
			if told++; told == s.cutAfter {
				return
			}
		}
		changed := s.changed
		s.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
			s.Lock()
			return
		}
		s.Lock()
	}
}
