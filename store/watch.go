package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/proa-dev/proa/apis/api"
)

// EventType is what happened, as the watcher sees it.
type EventType uint8

// The types of events.
const (
	Added EventType = iota + 1
	Modified
	Deleted
	Bookmark
)

// Event is one change, or (Bookmark) the news that there is nothing else up to Revision.
type Event struct {
	Type EventType
	// Item is nil for a Bookmark. For Deleted it is the last state at the revision of the
	// deletion; for an object that left the filter the old state at the new revision.
	Item       *Item
	Revision   int64
	InitialEnd bool // of a Bookmark: the initial state is complete
}

// WatchOptions select what a watcher sees.
type WatchOptions struct {
	Namespace, Name string
	// Index is one of the kind's Indexes, Value what the field must be: such a watcher
	// costs nothing while other objects change.
	Index, Value string
	// Filter is asked in Next, with read-only objects, twice for a modification. nil: all.
	Filter func(api.Object) bool
	// Since: events after this revision. Any (0): from the present, which is sent first as
	// Added; Latest: the same, and provably nothing acknowledged is missing.
	Since int64
	// InitialEvents: the present state, not older than Since, as Added, then a Bookmark with
	// InitialEnd.
	InitialEvents bool
	Bookmarks     bool // about once a minute, and at the deadline of Next's context
	// Patient: where a crowd watches the same, events may come a few milliseconds later, those
	// of that time together.
	Patient bool
	// Slow is told, once, that the watcher is too far behind and gets nothing more: its reader
	// may be held up elsewhere than in Next. It must not block. nil: nobody is.
	Slow func()
}

// Watch starts a watcher; the caller must Stop it. ErrCompacted, ErrFuture.
func (c *Collection) Watch(ctx context.Context, opts WatchOptions) (*Watcher, error) {
	w := &Watcher{c: c, opts: opts, wake: make(chan struct{}, 1), limit: c.s.cfg.Events}
	if opts.Index != "" {
		if w.value = c.kind.Fields[opts.Index]; w.value == nil {
			return nil, fmt.Errorf("watch %s: no field %q", c.kind.Kind, opts.Index)
		}
	}
	if err := c.s.reach(ctx, opts.Since); err != nil {
		return nil, err
	}
	if ok, err := c.start(w); ok || err != nil {
		return w, err
	}
	if err := c.recall(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c.s.log.Warn("read etcd's past for a watch that resumes", "kind", c.kind.Kind, "error", err)
		return nil, ErrCompacted
	}
	if ok, err := c.start(w); ok || err != nil {
		return w, err
	}
	return nil, ErrCompacted
}

// start makes w live, unless (false) the history does not reach back to where it begins.
func (c *Collection) start(w *Watcher) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.live.Load() {
		return false, ErrClosed
	}
	if w.opts.InitialEvents || w.opts.Since <= 0 {
		w.initial = c.now()
		w.seen = w.initial.revision
	} else {
		events, ok := c.history.since(w.opts.Since)
		if !ok {
			return false, nil
		}
		w.backlog, w.seen = events, w.opts.Since
	}
	c.topics.add(w)
	if w.opts.Bookmarks {
		w.reminder = time.AfterFunc(bookmarkEvery, w.remind)
	}
	return true, nil
}

// Watcher hands out events to one caller of Next at a time.
type Watcher struct {
	c     *Collection
	opts  WatchOptions
	value func(api.Object) string
	limit int

	// Of Next's caller.
	initial *Snapshot // what is left of the initial state, after path
	after   string
	backlog []*event // of history
	seen    int64    // handed out up to here
	spare   []*event
	out     []Event
	told    bool // the last bookmark was sent
	exact   bool // what comes is from its topic, and that is all it asks for

	// wake has a token when there is something to see; while its topic waits for more, it has none.
	wake     chan struct{}
	reminder *time.Timer
	due      atomic.Bool // a bookmark is to be sent

	mu    sync.Mutex
	queue []*event
	bytes int
	end   error // why there is nothing more

	at     int       // place in its topic; guarded by Collection.mu
	beside *watchers // its topic, set once
}

// Company is how many watchers see the same events as this one, itself among them.
func (w *Watcher) Company() int { return int(w.beside.size.Load()) }

// Limits of a watcher.
const (
	queueBytes    = 32 << 20 // stored bytes that a queue may hold alive
	initialBatch  = 500
	bookmarkEvery = time.Minute
)

// push queues an event and, if it is said now, wakes the reader; it never blocks.
func (w *Watcher) push(e *event, now bool) {
	w.mu.Lock()
	if w.end != nil {
		w.mu.Unlock()
		return
	}
	slow := len(w.queue) >= w.limit || w.bytes > queueBytes
	if slow {
		w.end, w.queue = ErrSlow, nil
	} else {
		w.queue = append(w.queue, e)
		w.bytes += e.item.Size()
	}
	first := len(w.queue) <= 1
	w.mu.Unlock()
	if slow || first && (now || !w.opts.Patient) {
		w.signal()
	}
	if slow && w.opts.Slow != nil {
		w.opts.Slow()
	}
}

// signalQueued wakes the reader if something waits for him.
func (w *Watcher) signalQueued() {
	w.mu.Lock()
	some := len(w.queue) > 0
	w.mu.Unlock()
	if some {
		w.signal()
	}
}

func (w *Watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take empties the queue.
func (w *Watcher) take() ([]*event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.queue
	w.queue, w.spare, w.bytes = w.spare, nil, 0
	if len(events) == 0 {
		return nil, w.end
	}
	if w.end != nil { // is said next; who ended the watcher may have found it woken
		w.signal()
	}
	return events, nil
}

// remind has Next send a bookmark.
func (w *Watcher) remind() {
	w.due.Store(true)
	w.signal()
}

// Next gives all events that are there, at least one, and blocks until there is one. The
// batch is valid until the next call. After ErrSlow, ErrCompacted (events were lost) or
// ErrClosed there are no more.
func (w *Watcher) Next(ctx context.Context) ([]Event, error) {
	if batch := w.past(); len(batch) > 0 {
		return batch, nil
	}
	for {
		if w.due.Load() {
			if b, ok := w.bookmark(); ok {
				w.due.Store(false)
				w.reminder.Reset(bookmarkEvery)
				return b, nil
			}
		}
		select {
		case <-w.wake:
			if batch, err := w.queued(); err != nil || len(batch) > 0 {
				return batch, err
			}
		case <-ctx.Done():
			if w.opts.Bookmarks && !w.told && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				w.told = true
				if b, ok := w.bookmark(); ok {
					return b, nil
				}
			}
			return nil, ctx.Err()
		}
	}
}

// past gives what was there before the watch began.
func (w *Watcher) past() []Event {
	w.out = w.out[:0]
	if w.initial != nil {
		w.begin()
		if len(w.out) > 0 {
			return w.out
		}
	}
	if w.backlog != nil {
		events := w.backlog
		w.backlog = nil
		w.show(events)
	}
	return w.out
}

// queued gives what has happened since.
func (w *Watcher) queued() ([]Event, error) {
	events, err := w.take()
	if err != nil || len(events) == 0 {
		return nil, err
	}
	w.exact = w.opts.Index == "" && w.opts.Filter == nil && w.topic().name == w.opts.Name
	w.out = w.out[:0]
	w.show(events)
	clear(events)
	if cap(events) <= 1024 {
		w.spare = events[:0]
	}
	return w.out, nil
}

// begin gives the next part of the initial state.
func (w *Watcher) begin() {
	more := false
	w.initial.Ascend(w.opts.Namespace, w.after, func(i *Item) bool {
		if len(w.out) == initialBatch {
			more = true
			return false
		}
		w.after = i.path
		if w.matches(i) {
			w.out = append(w.out, Event{Type: Added, Item: i, Revision: i.Revision})
		}
		return true
	})
	if more {
		return
	}
	if w.opts.InitialEvents {
		w.out = append(w.out, Event{Type: Bookmark, Revision: w.initial.revision, InitialEnd: true})
	}
	w.initial = nil
}

// show turns changes into what this watcher sees of them.
func (w *Watcher) show(events []*event) {
	for _, e := range events {
		w.seen = e.revision
		is := e.kind != Deleted && w.matches(e.item)
		was := e.old != nil && (e.kind != Added) && w.matches(e.old)
		switch {
		case is && was:
			w.out = append(w.out, Event{Type: Modified, Item: e.item, Revision: e.revision})
		case is:
			w.out = append(w.out, Event{Type: Added, Item: e.item, Revision: e.revision})
		case was && e.kind == Deleted:
			w.out = append(w.out, Event{Type: Deleted, Item: e.item, Revision: e.revision})
		case was:
			w.out = append(w.out, Event{Type: Deleted, Item: e.leaving(), Revision: e.revision})
		}
	}
}

// leaving is the old state at the new revision, made once for all watchers.
func (e *event) leaving() *Item {
	e.left.do.Do(func() { e.left.item = e.old.at(e.revision) })
	return e.left.item
}

type once struct {
	do   sync.Once
	item *Item
}

func (w *Watcher) matches(i *Item) bool {
	if w.exact {
		return !i.torn()
	}
	if !w.named(i.path) {
		return false
	}
	if w.value == nil && w.opts.Filter == nil {
		return !i.torn()
	}
	obj := i.Object()
	if obj == nil {
		return false
	}
	return (w.value == nil || w.value(obj) == w.opts.Value) && (w.opts.Filter == nil || w.opts.Filter(obj))
}

func (w *Watcher) named(path string) bool {
	if w.opts.Namespace == "" && w.opts.Name == "" {
		return true
	}
	namespace, name := split(path)
	return (w.opts.Namespace == "" || w.opts.Namespace == namespace) && (w.opts.Name == "" || w.opts.Name == name)
}

// bookmark tells how far the watcher is. The revision is read before the queue is found
// empty: whatever is not newer has been queued by then.
func (w *Watcher) bookmark() ([]Event, bool) {
	revision := w.c.s.revision.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) > 0 || w.end != nil {
		return nil, false
	}
	w.seen = max(w.seen, revision)
	w.out = append(w.out[:0], Event{Type: Bookmark, Revision: w.seen})
	return w.out, true
}

// Stop ends the watcher; Next must not be called again. Calling it twice is harmless.
func (w *Watcher) Stop() {
	w.c.mu.Lock()
	w.c.topics.remove(w)
	w.c.mu.Unlock()
	if w.reminder != nil {
		w.reminder.Stop()
	}
	w.finish(ErrClosed)
}

func (w *Watcher) finish(err error) {
	w.mu.Lock()
	if w.end == nil {
		w.end = err
	}
	if err != ErrClosed {
		w.queue = nil
	}
	w.mu.Unlock()
	w.signal()
}

// endWatchers ends all watchers of the kind.
func (c *Collection) endWatchers(err error) {
	c.mu.Lock()
	if errors.Is(err, ErrClosed) {
		c.live.Store(false)
	}
	all := c.topics.clear()
	c.mu.Unlock()
	for _, w := range all {
		w.finish(err)
	}
}
