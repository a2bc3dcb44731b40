package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// entry is one record of a log file. text ends with a newline unless more of the line follows.
type entry struct {
	stamp  []byte // RFC 3339
	stream string // "stdout" or "stderr"
	text   []byte
}

var errRecord = errors.New("not a log record")

// parse reads one record: the CRI's text form, or the JSON form that Docker writes. The
// result shares memory with line, which may end with a newline.
func parse(line []byte) (entry, error) {
	if len(line) > 0 && line[0] == '{' {
		return parseJSON(line)
	}
	stamp, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok || len(stamp) == 0 {
		return entry{}, errRecord
	}
	name, rest, ok := bytes.Cut(rest, []byte{' '})
	if !ok {
		return entry{}, errRecord
	}
	stream := streamName(name)
	tags, text, ok := bytes.Cut(rest, []byte{' '})
	if stream == "" || !ok {
		return entry{}, errRecord
	}
	tag, _, _ := bytes.Cut(tags, []byte{':'}) // the first says whether the line is whole
	switch string(tag) {
	case "P":
		text = bytes.TrimSuffix(text, []byte{'\n'})
	case "F":
	default:
		return entry{}, errRecord
	}
	return entry{stamp, stream, text}, nil
}

func streamName(name []byte) string {
	switch string(name) {
	case "stdout":
		return "stdout"
	case "stderr":
		return "stderr"
	}
	return ""
}

func parseJSON(line []byte) (entry, error) {
	var r struct {
		Log    string `json:"log"`
		Stream string `json:"stream"`
		Time   string `json:"time"`
	}
	if err := json.Unmarshal(line, &r); err != nil || r.Time == "" {
		return entry{}, errRecord
	}
	stream := streamName([]byte(r.Stream))
	if stream == "" {
		return entry{}, errRecord
	}
	return entry{[]byte(r.Time), stream, []byte(r.Log)}, nil
}

// fixedNano is RFC 3339 with all nine digits, as clients know it.
const fixedNano = "2006-01-02T15:04:05.000000000Z07:00"

// filter turns records into what a reader asked for, into one growing buffer.
type filter struct {
	o       Options
	left    int64 // bytes that may still be written; < 0: any
	out     []byte
	midline bool  // what was written last had no newline
	last    entry // header of a record longer than the buffer
	long    bool
}

// full tells that nothing more may be written.
func (f *filter) full() bool { return f.left == 0 }

// record takes one line with its newline, or the first piece of one longer than the buffer.
func (f *filter) record(line []byte, whole bool) {
	if f.long { // goes on where the header was read already
		if f.last.stream != "" {
			f.write(line)
		}
		f.long = !whole
		return
	}
	e, err := parse(line)
	if err != nil || f.o.Stream != "" && f.o.Stream != e.stream || !f.young(e.stamp) {
		f.last, f.long = entry{}, !whole
		return
	}
	f.last, f.long = entry{stream: e.stream}, !whole
	if f.o.Timestamps && !f.midline {
		f.write(append(fixed(e.stamp), ' '))
	}
	f.write(e.text)
}

func (f *filter) young(stamp []byte) bool {
	if f.o.Since.IsZero() {
		return true
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	return err == nil && !at.Before(f.o.Since)
}

func fixed(stamp []byte) []byte {
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return bytes.Clone(stamp)
	}
	return at.AppendFormat(make([]byte, 0, len(fixedNano)+1), fixedNano)
}

func (f *filter) write(text []byte) {
	if f.left >= 0 && int64(len(text)) > f.left {
		text = text[:f.left]
	}
	if len(text) == 0 {
		return
	}
	if f.left > 0 {
		f.left -= int64(len(text))
	}
	f.out = append(f.out, text...)
	f.midline = text[len(text)-1] != '\n'
}
