package server

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// metricsText is written one family of metrics after the other, in the form that
// Prometheus scrapes.
type metricsText struct{ bytes.Buffer }

func (t *metricsText) family(name, kind, help string) {
	fmt.Fprintf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// sample writes a line; labels are as label and labels make them. Without a time it is the scraper's.
func (t *metricsText) sample(name, labels string, v float64, at time.Time) {
	t.WriteString(name)
	if labels != "" {
		t.WriteByte('{')
		t.WriteString(labels)
		t.WriteByte('}')
	}
	t.WriteByte(' ')
	t.Write(strconv.AppendFloat(t.AvailableBuffer(), v, 'g', -1, 64))
	if !at.IsZero() {
		t.WriteByte(' ')
		t.Write(strconv.AppendInt(t.AvailableBuffer(), at.UnixMilli(), 10))
	}
	t.WriteByte('\n')
}

// escape is what label values need; other bytes stay as they are.
var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// labels joins names and values, one after the other.
func labels(pairs ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(pairs[i])
		b.WriteString(`="`)
		b.WriteString(escape.Replace(strings.ToValidUTF8(pairs[i+1], "\uFFFD")))
		b.WriteByte('"')
	}
	return b.String()
}

func (s *Server) writeText(w http.ResponseWriter, t *metricsText) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	if _, err := w.Write(t.Bytes()); err != nil {
		s.log.Debug("answer not delivered", "error", err)
	}
}
