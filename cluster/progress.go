package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Step is one line of a starting process's progress file.
type Step struct {
	After  time.Duration `json:"after"` // since the process was started
	Text   string        `json:"text"`
	Failed bool          `json:"failed,omitempty"` // the last step: Text says why
	Ready  bool          `json:"ready,omitempty"`  // the last step
}

// Progress notes the steps of a start for whoever waits for it.
type Progress struct {
	begun time.Time
	mu    sync.Mutex
	file  *os.File // nil: nobody asked
}

// NewProgress begins a progress file anew; an empty path notes nothing.
func NewProgress(path string, begun time.Time) (*Progress, error) {
	p := &Progress{begun: begun}
	if path == "" {
		return p, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	var err error
	p.file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	return p, err
}

// Step notes a step. An error in noting it is of no consequence to the start.
func (p *Progress) Step(text string) { p.write(Step{Text: text}) }

// Ready notes the end of a good start.
func (p *Progress) Ready(text string) { p.write(Step{Text: text, Ready: true}) }

// Failed notes the end of a bad one.
func (p *Progress) Failed(err error) { p.write(Step{Text: err.Error(), Failed: true}) }

func (p *Progress) write(s Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return
	}
	s.After = time.Since(p.begun)
	raw, _ := json.Marshal(s)
	_, _ = p.file.Write(append(raw, '\n'))
}
