package gather

// frames follows the frames of HTTP/2 that a server writes, in pieces of whatever length.
type frames struct {
	head [9]byte // of the next frame, as far as it came
	have int
	left int // bytes of the present frame that did not come yet
	ends bool
	data bool // the present frame is one of an answer's body
}

// Of a frame's header (RFC 9113, 4.1 and 6).
const (
	typeData         = 0
	typeHeaders      = 1
	typeWindowUpdate = 8
	flagEndStream    = 1
)

// read tells whether with p ends what somebody waits for, an answer or a frame that is about the
// connection, and whether p has a part of a body. A header is followed by a body, and a
// window can wait for an answer.
func (f *frames) read(p []byte) (ends, data bool) {
	for len(p) > 0 {
		if f.left == 0 {
			n := copy(f.head[f.have:], p)
			f.have += n
			p = p[n:]
			if f.have < len(f.head) {
				return ends, data
			}
			f.begin()
		}
		n := min(f.left, len(p))
		f.left -= n
		p = p[n:]
		data = data || f.data
		ends = ends || f.ends && f.left == 0
	}
	return ends, data
}

func (f *frames) begin() {
	f.have = 0
	f.left = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
	f.data, f.ends = false, true
	switch f.head[3] {
	case typeData:
		f.data, f.ends = true, f.head[4]&flagEndStream != 0
	case typeHeaders:
		f.ends = f.head[4]&flagEndStream != 0
	case typeWindowUpdate:
		f.ends = false
	}
}
