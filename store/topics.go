package store

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/proa-dev/proa/apis/api"
)

// topics finds the watchers of an event without asking each. A watcher is in exactly
// one topic, the narrowest it asks for. Guarded by Collection.mu.
type topics struct {
	by map[topic]*watchers
	// indexes counts the watchers by index, so that no field is read for nobody.
	indexes map[string]int
}

// topic is a namespace, an object, or a value of an index; the zero topic is everything.
type topic struct{ index, value, namespace, name string }

type watchers struct {
	mu   *sync.Mutex // Collection.mu
	list []*Watcher
	size atomic.Int32 // of list, for those who do not hold the lock
	told time.Time    // when those who can wait were last told, if there is a crowd
	// waiting: the timer runs that tells them next.
	waiting bool
}

// Where a crowd watches the same, those who can wait are told of what happens at most once
// in a pause, all at one time: a wake-up and a sending cost more than an event.
const (
	crowd      = 64
	crowdPause = 12 * time.Millisecond
)

// now tells whether those who can wait are told at once, or later with what comes until then.
func (set *watchers) now() bool {
	if len(set.list) <= crowd {
		return true
	}
	if set.waiting {
		return false
	}
	now := time.Now()
	rest := crowdPause - now.Sub(set.told)
	if rest <= 0 {
		set.told = now
		return true
	}
	set.waiting = true
	time.AfterFunc(rest, func() {
		set.mu.Lock()
		defer set.mu.Unlock()
		set.waiting, set.told = false, time.Now()
		for _, w := range set.list {
			w.signalQueued()
		}
	})
	return false
}

func (w *Watcher) topic() topic {
	o := &w.opts
	switch {
	case o.Name != "" && (o.Namespace != "" || !w.c.kind.Namespaced):
		return topic{namespace: o.Namespace, name: o.Name}
	case o.Index != "":
		return topic{index: o.Index, value: o.Value}
	default:
		return topic{namespace: o.Namespace}
	}
}

func (t *topics) add(w *Watcher) {
	if t.by == nil {
		t.by, t.indexes = map[topic]*watchers{}, map[string]int{}
	}
	key := w.topic()
	set := t.by[key]
	if set == nil {
		set = &watchers{mu: &w.c.mu}
		t.by[key] = set
	}
	w.at, w.beside = len(set.list), set
	set.list = append(set.list, w)
	set.size.Add(1)
	if key.index != "" {
		t.indexes[key.index]++
	}
}

func (t *topics) remove(w *Watcher) {
	key := w.topic()
	set := t.by[key]
	if set == nil || w.at >= len(set.list) || set.list[w.at] != w {
		return
	}
	last := len(set.list) - 1
	set.list[w.at] = set.list[last]
	set.list[w.at].at = w.at
	set.list[last] = nil
	set.list = set.list[:last]
	set.size.Add(-1)
	if last == 0 {
		delete(t.by, key)
	}
	if key.index != "" {
		if t.indexes[key.index]--; t.indexes[key.index] == 0 {
			delete(t.indexes, key.index)
		}
	}
}

func (t *topics) clear() []*Watcher {
	var all []*Watcher
	for _, set := range t.by {
		all = append(all, set.list...)
	}
	t.by, t.indexes = nil, nil
	return all
}

func (t *topics) publish(kind *api.Kind, e *event) {
	if len(t.by) == 0 {
		return
	}
	namespace, name := e.item.Key()
	t.send(topic{}, e)
	t.send(topic{namespace: namespace, name: name}, e)
	if namespace != "" {
		t.send(topic{namespace: namespace}, e)
	}
	for index := range t.indexes {
		t.sendByIndex(kind, index, e)
	}
}

func (t *topics) send(key topic, e *event) {
	set := t.by[key]
	if set == nil {
		return
	}
	now := set.now()
	for _, w := range set.list {
		w.push(e, now)
	}
}

// sendByIndex reaches those who watch the value that the field has, and had.
func (t *topics) sendByIndex(kind *api.Kind, index string, e *event) {
	value := kind.Fields[index]
	is, now := "", e.item.Object()
	if now != nil {
		is = value(now)
		t.send(topic{index: index, value: is}, e)
	}
	if e.old == nil || e.kind == Deleted {
		return
	}
	if old := e.old.Object(); old != nil {
		if was := value(old); now == nil || was != is {
			t.send(topic{index: index, value: was}, e)
		}
	}
}
