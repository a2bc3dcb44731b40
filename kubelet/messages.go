package kubelet

import (
	"bytes"
	"io"
	"os"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/proa-dev/proa/kubelet/cri"
	"github.com/proa-dev/proa/kubelet/plan"
)

// Bounds of a termination message, as upstream's.
const (
	maxMessage  = 4096
	maxFallback = 2048
	maxLines    = 80
)

// readMessages reads the last words of containers that have ended, once each.
func (w *worker) readMessages() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.observed == nil {
		return
	}
	for i := range w.observed.Containers {
		c := &w.observed.Containers[i]
		if _, have := w.messages[c.ID]; have || c.State != plan.Exited {
			continue
		}
		w.messages[c.ID] = lastWords(c)
	}
	for id := range w.messages {
		if w.observed.ByID(id) == nil {
			delete(w.messages, id)
		}
	}
}

func lastWords(c *plan.Container) string {
	if file := c.Notes[cri.NoteTerminationFile]; file != "" {
		if f, err := os.Open(file); err == nil {
			data, err := io.ReadAll(io.LimitReader(f, maxMessage))
			_ = f.Close() // only read
			if err == nil && len(data) > 0 {
				return string(data)
			}
		}
	}
	if c.Notes[cri.NoteTerminationPolicy] == string(corev1.TerminationMessageFallbackToLogsOnError) && c.ExitCode != 0 {
		return logTail(c.LogPath)
	}
	return ""
}

// logTail is the end of a container's log without the runtime's stamps.
func logTail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const window = 4 * maxFallback
	if st, err := f.Stat(); err == nil && st.Size() > window {
		if _, err := f.Seek(-window, io.SeekEnd); err != nil {
			return ""
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, window))
	if err != nil {
		return ""
	}
	var out [][]byte
	for _, line := range bytes.SplitAfter(data, []byte("\n")) {
		// "<time> <stream> <tag> <text>"
		parts := bytes.SplitN(line, []byte(" "), 4)
		if len(parts) < 4 {
			continue
		}
		if string(parts[2]) == "P" { // the part of a line, whose end is not there
			parts[3] = bytes.TrimSuffix(parts[3], []byte("\n"))
		}
		out = append(out, parts[3])
	}
	if len(out) > maxLines {
		out = out[len(out)-maxLines:]
	}
	text := bytes.Join(out, nil)
	if len(text) > maxFallback {
		text = text[len(text)-maxFallback:]
	}
	return string(text)
}

func sorted(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k, v := range m {
		keys = append(keys, k+"="+v)
	}
	sort.Strings(keys)
	return strings.Join(keys, ",")
}
