package wire

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Limits of one run.
const (
	patience = 10 * time.Second       // for an answer with the code that a step waits for
	quiet    = 400 * time.Millisecond // without an event, when recording: that was all
	glance   = 20 * time.Millisecond  // the same, when the events that must come have come
	longest  = 8 << 20                // bytes of an answer
)

// Run is one run of a case at a server.
type Run struct {
	server  *Server
	names   *Names
	watches map[string]*watch
	backend *Backend // nil: none
}

// Begin makes the case's namespace.
func Begin(ctx context.Context, s *Server, c *Case) (*Run, error) {
	area, name, _ := strings.Cut(c.Name, "/")
	ns := strings.ToLower(fmt.Sprintf("%s-%.12s-%.5s", area, name, rand.Text()))
	at, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	r := &Run{server: s, names: NewNames(ns, at.Host), watches: map[string]*watch{}}
	for _, step := range []Step{
		{Do: "POST /api/v1/namespaces", Body: map[string]any{"metadata": map[string]any{"name": ns}}, Until: 201},
		{Do: "POST /api/v1/namespaces/{ns}/serviceaccounts", Body: map[string]any{"metadata": map[string]any{"name": "default"}}, Until: 201},
	} {
		if _, err := r.do(ctx, &step); err != nil {
			return nil, err
		}
	}
	r.names = NewNames(ns, at.Host)
	if c.Backend != nil {
		if r.backend, err = StartBackend(c.Backend, ns); err != nil {
			return nil, err
		}
		r.backend.name(r.names)
	}
	return r, nil
}

// End closes what is open, and deletes the namespace.
func (r *Run) End(ctx context.Context) error {
	for _, w := range r.watches {
		w.close()
	}
	_, err := r.do(ctx, &Step{Do: "DELETE /api/v1/namespaces/{ns}"})
	if r.backend != nil {
		err = errors.Join(err, r.backend.server.Close())
	}
	return err
}

// Step does one and answers what came.
func (r *Run) Step(ctx context.Context, s *Step) (*Answer, error) {
	switch {
	case s.Watch != "":
		return r.open(ctx, s)
	case s.Events != "":
		w, ok := r.watches[s.Events]
		if !ok {
			return nil, fmt.Errorf("no watch is called %s", s.Events)
		}
		return r.read(s, w)
	case s.Asked != "":
		return r.asked(s)
	}
	return r.do(ctx, s)
}

// asked is what the backend was asked.
func (r *Run) asked(s *Step) (*Answer, error) {
	if r.backend == nil {
		return nil, errors.New("the case has no backend")
	}
	if _, ok := r.backend.replies[s.Asked]; !ok {
		return nil, fmt.Errorf("the backend has no %s, only %v", s.Asked, r.backend.paths())
	}
	a := &Answer{}
	for _, one := range r.backend.Asked(s.Asked) {
		v := r.names.Value(one)
		for _, path := range s.Ignore {
			hide(v, path)
		}
		a.Events = append(a.Events, v)
	}
	return a, nil
}

func (r *Run) do(ctx context.Context, s *Step) (*Answer, error) {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		res, err := r.send(ctx, s, s.Do)
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(io.LimitReader(res.Body, longest))
		res.Body.Close()
		if err != nil {
			return nil, err
		}
		if (s.Until == 0 || s.Until == res.StatusCode) && s.has(raw) {
			return r.names.answer(s, res, raw)
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("not %d %s within %v: %d %.1000s", s.Until, s.Has, patience, res.StatusCode, raw)
		}
	}
}

// has tells whether a body has what the step waits for.
func (s *Step) has(raw []byte) bool {
	if s.Has == "" {
		return true
	}
	body, err := fromJSON(raw)
	if err != nil {
		return false
	}
	_, ok := at(body, s.Has)
	return ok
}

// send makes the request of a step; line is its method and path.
func (r *Run) send(ctx context.Context, s *Step, line string) (*http.Response, error) {
	method, path, _ := strings.Cut(line, " ")
	var body io.Reader
	kind := s.Type
	if s.Body != nil {
		text, ok := s.Body.(string)
		if !ok {
			raw, err := json.Marshal(s.Body)
			if err != nil {
				return nil, err
			}
			text = string(raw)
		}
		body = strings.NewReader(r.names.Fill(text))
		if kind == "" {
			kind = "application/json"
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, r.server.URL+r.names.Fill(path), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "wire/v1")
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for name, v := range s.Headers {
		req.Header.Set(name, r.names.Fill(v))
	}
	as := s.As
	if as == "" {
		as = "admin"
	}
	transport, ok := r.server.Users[as]
	if !ok {
		return nil, fmt.Errorf("there is no user %s", as)
	}
	return transport.RoundTrip(req)
}

// watch is an open stream.
type watch struct {
	close  func()
	events chan any // closed at its end
}

func (r *Run) open(ctx context.Context, s *Step) (*Answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	res, err := r.send(ctx, s, s.Watch)
	if err != nil {
		cancel()
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		defer cancel()
		defer res.Body.Close()
		raw, err := io.ReadAll(io.LimitReader(res.Body, longest))
		if err != nil {
			return nil, err
		}
		return r.names.answer(s, res, raw)
	}
	w := &watch{cancel, make(chan any, 1000)}
	go func() {
		defer close(w.events)
		defer res.Body.Close()
		d := json.NewDecoder(res.Body)
		d.UseNumber()
		for {
			var v any
			if d.Decode(&v) != nil {
				return
			}
			select {
			case w.events <- plain(v):
			case <-ctx.Done():
				return
			}
		}
	}()
	r.watches[s.Name] = w
	return &Answer{Code: res.StatusCode, Headers: r.names.headers(res.Header)}, nil
}

// periodic bookmarks come when they come.
func periodic(event any) bool {
	kind, _ := at(event, "type")
	_, marked := at(event, "object.metadata.annotations")
	_, table := at(event, "object.rows")
	return kind == "BOOKMARK" && !marked && !table
}

// read takes the events that must come, or all until it is quiet.
func (r *Run) read(s *Step, w *watch) (*Answer, error) {
	a := &Answer{}
	for {
		wait := quiet
		if s.Want != nil && s.Differs == "" {
			wait = patience
			if len(a.Events) >= len(s.Want.Events) && !s.Want.End {
				wait = glance
			}
		}
		select {
		case v, ok := <-w.events:
			if !ok {
				a.End = true
				return a, nil
			}
			v = r.names.Value(v)
			if periodic(v) {
				continue
			}
			for _, path := range s.Ignore {
				hide(v, path)
			}
			a.Events = append(a.Events, v)
		case <-time.After(wait):
			return a, nil
		}
	}
}
