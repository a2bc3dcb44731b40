package report

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Progress counts specs as they end. It is the handler of the URL that the suite is told
// to post its progress to.
type Progress struct {
	Out io.Writer

	mu           sync.Mutex
	total        int
	done, failed int
	start        time.Time
}

// Reset begins a new run.
func (p *Progress) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total, p.done, p.failed, p.start = 0, 0, 0, time.Now()
}

// maxPost bounds a message; it lists every failure so far.
const maxPost = 1 << 20

func (p *Progress) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m struct {
		Msg   string
		Total int
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPost)).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.note(m.Msg, m.Total)
}

// note takes one message. Each process of the suite counts for itself: only that a spec
// has ended, and how, is taken from its messages; the total is the same in all.
func (p *Progress) note(msg string, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total = max(p.total, total)
	outcome, name, _ := strings.Cut(msg, " ")
	switch outcome {
	case "PASSED":
	case "FAILED":
		p.failed++
	default:
		return
	}
	p.done++
	left := max(0, p.total-p.done)
	estimate := time.Since(p.start) / time.Duration(p.done) * time.Duration(left)
	fmt.Fprintf(p.Out, "%4d done, %d failed, %d left, about %s: %s %s\n",
		p.done, p.failed, left, estimate.Round(10*time.Second), strings.ToLower(outcome), name)
}
