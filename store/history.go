package store

import "sort"

// historyBytes bounds the stored bytes that the history of one kind keeps alive.
const historyBytes = 16 << 20

// event is a change as it is kept and handed out: one for all who watch.
type event struct {
	kind     EventType
	revision int64
	item     *Item // of a deletion the last state, at its revision
	old      *Item // what was before; nil for an addition

	left once // for watchers whose filter the object left
}

// history holds the last events of a kind in order, in a ring.
type history struct {
	limit  int
	floor  int64 // the events after this revision are all here
	ring   []*event
	start  int // of the oldest
	length int
	bytes  int
}

func (h *history) at(i int) *event { return h.ring[(h.start+i)%len(h.ring)] }

func (h *history) add(e *event) {
	h.bytes += e.item.Size()
	for h.length > 0 && (h.length >= h.limit || h.bytes > historyBytes) {
		h.drop()
	}
	if h.length == len(h.ring) {
		h.enlarge()
	}
	h.ring[(h.start+h.length)%len(h.ring)] = e
	h.length++
}

// drop forgets the oldest revision, with all its events.
func (h *history) drop() {
	revision := h.at(0).revision
	for h.length > 0 && h.at(0).revision == revision {
		h.bytes -= h.at(0).item.Size()
		h.ring[h.start] = nil
		h.start = (h.start + 1) % len(h.ring)
		h.length--
	}
	h.floor = revision
}

func (h *history) enlarge() {
	ring := make([]*event, max(16, 2*h.length))
	for i := range h.length {
		ring[i] = h.at(i)
	}
	h.ring, h.start = ring, 0
}

// prepend puts events before those that are there; floor is what they come after.
func (h *history) prepend(events []*event, floor int64) {
	all := history{limit: h.limit, floor: floor}
	for _, e := range events {
		all.add(e)
	}
	for i := range h.length {
		all.add(h.at(i))
	}
	*h = all
}

// since gives the events after a revision, if none of them is gone.
func (h *history) since(revision int64) ([]*event, bool) {
	if revision < h.floor {
		return nil, false
	}
	first := sort.Search(h.length, func(i int) bool { return h.at(i).revision > revision })
	if first == h.length {
		return nil, true
	}
	out := make([]*event, 0, h.length-first)
	for i := first; i < h.length; i++ {
		out = append(out, h.at(i))
	}
	return out, true
}
