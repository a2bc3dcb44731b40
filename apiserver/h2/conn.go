package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	streamWindow = 256 << 10 // bytes of a body that may come before its handler reads
	connWindow   = 1 << 20   // and of all bodies on a connection
	firstWindow  = 65535     // of both, before anybody says anything (RFC 9113, 6.9.2)
	maxWindow    = 1<<31 - 1
	frameSize    = 16 << 10 // bytes of a frame, before anybody says anything; we never do
	// linger is how long a connection that ends still takes what is under way, so that the
	// peer reads why it ended, and its last requests are refused rather than lost.
	linger = 500 * time.Millisecond
	// drained is how much of that is taken, in bytes.
	drained = 1 << 20
)

// conn is one connection.
type conn struct {
	srv     *server
	tls     *tls.Conn
	state   *tls.ConnectionState
	remote  string
	base    context.Context
	handler http.Handler
	all     sync.WaitGroup // handlers and writers
	work    chan work      // for the goroutines that wait

	// Of the reader alone.
	framer *http2.Framer
	block  block
	budget budget

	mu sync.Mutex
	out
	streams map[uint32]*stream
	parked  int    // goroutines that wait for work and have none under way
	orphans int    // streams that ended before their handlers did, which still run
	seen    uint32 // the last that the peer opened
	lastID  uint32 // the last of these that was not refused because the connection ends
	recent  [64]uint32
	at      int // in recent, the next place

	granted, credit int64 // as of a stream
	window          int64 // bytes that the peer takes on the connection
	peerWindow      int64 // on a new stream
	peerFrame       int   // bytes of a frame that the peer takes

	leaving   bool // no new requests
	lingering bool // the reader has been told to stop soon
	idle      alarm
	idleSince time.Time

	date   string // as in the header of an answer
	second int64  // of date
}

func newConn(s *server, t *tls.Conn, h http.Handler, base context.Context) *conn {
	c := &conn{srv: s, tls: t, handler: h, streams: map[uint32]*stream{}, work: make(chan work, mostParked)}
	state := t.ConnectionState()
	c.state, c.remote = &state, t.RemoteAddr().String()
	c.base = base
	if base.Value(http.ServerContextKey) == nil { // net/http says so itself
		c.base = context.WithValue(context.WithValue(base, http.ServerContextKey, s.http), http.LocalAddrContextKey, t.LocalAddr())
	}
	c.framer = http2.NewFramer(nil, t)
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(frameSize)
	c.block.init(s.cfg.MaxHeader)
	c.encoder = hpack.NewEncoder(c)
	c.written.L = &c.mu
	c.due.ring, c.idle.ring = c.drainDue, c.idled
	c.granted, c.window, c.peerWindow, c.peerFrame = firstWindow, firstWindow, firstWindow, frameSize
	return c
}

// serve reads frames until the connection ends, and returns when nothing of it runs any more.
func (c *conn) serve() {
	err := c.begin()
	for err == nil {
		err = c.next()
	}
	c.finish(err)
	close(c.work)
	c.all.Wait()
}

// begin exchanges prefaces.
func (c *conn) begin() error {
	c.mu.Lock()
	settings := []http2.Setting{
		{ID: http2.SettingMaxConcurrentStreams, Val: c.srv.cfg.MaxStreams},
		{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.srv.cfg.MaxHeader)},
	}
	c.frame(http2.FrameSettings, 0, 0, 6*len(settings))
	for _, s := range settings {
		c.pending.b = append(c.pending.b, byte(s.ID>>8), byte(s.ID), byte(s.Val>>24), byte(s.Val>>16), byte(s.Val>>8), byte(s.Val))
	}
	c.word(http2.FrameWindowUpdate, 0, connWindow-firstWindow)
	c.granted = connWindow
	c.later()
	c.becameIdle()
	c.mu.Unlock()
	if c.state.Version < tls.VersionTLS13 && !secure(c.state.CipherSuite) {
		return http2.ConnectionError(http2.ErrCodeInadequateSecurity)
	}
	if err := c.readWithin(c.srv.cfg.HeaderTimeout); err != nil {
		return err
	}
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.tls, preface); err != nil {
		return err
	}
	if string(preface) != http2.ClientPreface {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	f, err := c.framer.ReadFrame()
	if err != nil {
		return err
	}
	s, ok := f.(*http2.SettingsFrame)
	if !ok || s.IsAck() {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if err := c.settings(s); err != nil {
		return err
	}
	return c.readWithin(0)
}

// secure says whether HTTP/2 may use a cipher suite of TLS 1.2 (RFC 9113, appendix A names those
// it may not).
func secure(suite uint16) bool {
	switch suite {
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		return true
	}
	return false
}

// readWithin bounds what the reader waits for from now on; 0: not at all.
func (c *conn) readWithin(d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lingering { // which has a bound
		return nil
	}
	if d == 0 {
		return c.tls.SetReadDeadline(time.Time{})
	}
	return c.tls.SetReadDeadline(time.Now().Add(d))
}

// next reads a frame and does what it asks for.
func (c *conn) next() error {
	head, err := c.framer.ReadFrameHeader()
	if err != nil {
		return err
	}
	f, err := c.framer.ReadFrameForHeader(head)
	var faulty http2.StreamError
	if errors.As(err, &faulty) {
		if head.Type == http2.FrameHeaders { // its fields would have changed the decoder's state
			return http2.ConnectionError(faulty.Code)
		}
		err = faulty
	} else if err == nil {
		err = c.frameRead(f)
	}
	if errors.As(err, &faulty) {
		return c.faulty(faulty)
	}
	return err
}

// errCalm ends a connection whose peer makes work for nothing.
var errCalm = http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)

// faulty resets a stream for a fault of the peer's.
func (c *conn) faulty(e http2.StreamError) error {
	if !c.budget.spend(costReset, time.Now()) {
		return errCalm
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.streams[e.StreamID]; st != nil {
		st.reset(e.Code, e)
	} else {
		c.word(http2.FrameRSTStream, e.StreamID, uint32(e.Code))
		c.remember(e.StreamID, true)
	}
	return c.answered()
}

// answered has the answer to a control frame sent, if there are not too many already.
func (c *conn) answered() error {
	if c.control++; c.control > mostControl {
		return errCalm
	}
	c.later()
	return nil
}

// remember keeps which streams have ended lately, and whether we reset them: frames that
// were under way then are nobody's fault.
func (c *conn) remember(id uint32, ours bool) {
	if ours {
		id |= resetByUs
	}
	c.recent[c.at] = id
	c.at = (c.at + 1) % len(c.recent)
}

// resetByUs is no bit of a stream's number.
const resetByUs = 1 << 31

// known says of a stream that has ended whether that was lately, and whether we reset it.
func (c *conn) known(id uint32) (lately, ours bool) {
	for _, r := range c.recent {
		if r&^resetByUs == id {
			lately, ours = true, ours || r&resetByUs != 0
		}
	}
	return lately, ours
}

// fail ends the connection: nothing can be written any more.
func (c *conn) fail(err error) {
	if c.failed != nil {
		return
	}
	c.failed = err
	_ = c.tls.NetConn().Close() // whatever it says, this is the end
	for _, st := range c.streams {
		st.end(fmt.Errorf("%w: %w", errClientGone, err))
	}
	c.wakeWaiting()
	c.written.Broadcast()
}

// finish ends the connection after the reader has ended with err, and says why if the peer
// can still hear it.
func (c *conn) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	code, tell := goodbye(err)
	if tell && c.failed == nil {
		c.srv.cfg.Log.Debug("end an HTTP/2 connection", "client", c.remote, "reason", code)
		c.leaving = true
		c.goAwayFrame(code, "")
	}
	for _, st := range c.streams {
		st.end(errClientGone)
	}
	if c.failed == nil {
		c.hurry(linger)
		c.deadline = time.Now().Add(c.srv.cfg.WriteTimeout + time.Hour) // the last one
		c.later()
		for c.writing {
			c.written.Wait()
		}
		c.mu.Unlock()
		if tell && c.tls.CloseWrite() == nil && c.tls.SetReadDeadline(time.Now().Add(linger)) == nil {
			_, _ = io.CopyN(io.Discard, c.tls, drained) // until the peer has closed as well
		}
		_ = c.tls.Close() // the peer may have been first
		c.mu.Lock()
		c.fail(errClientGone)
	}
	c.due.stop()
	c.idle.stop()
	for c.writing {
		c.written.Wait()
	}
	if c.pending != nil {
		c.pending.release()
		c.pending = nil
	}
}

// goodbye is what the peer is told when reading ended with err; false: nothing.
func goodbye(err error) (http2.ErrCode, bool) {
	var fault http2.ConnectionError
	switch {
	case errors.As(err, &fault):
		return http2.ErrCode(fault), true
	case errors.Is(err, http2.ErrFrameTooLarge):
		return http2.ErrCodeFrameSize, true
	}
	return 0, false
}

// shutdown lets requests finish and takes no new ones.
func (c *conn) shutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leave()
}

func (c *conn) leave() {
	if c.leaving || c.failed != nil {
		return
	}
	c.leaving = true
	c.goAwayFrame(http2.ErrCodeNo, "")
	c.later()
	if len(c.streams) == 0 {
		c.stopSoon()
	}
}

// stopSoon has the reader end after what is under way.
func (c *conn) stopSoon() {
	c.lingering = true
	if err := c.tls.SetReadDeadline(time.Now().Add(linger)); err != nil {
		c.fail(err)
	}
}

// becameIdle is called when the last stream has ended.
func (c *conn) becameIdle() {
	switch {
	case c.failed != nil:
	case c.leaving:
		c.stopSoon()
	default:
		c.idleSince = time.Now()
		c.idle.set(c.srv.cfg.IdleTimeout)
	}
}

func (c *conn) idled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle.armed = false
	if len(c.streams) > 0 || c.failed != nil {
		return
	}
	if rest := c.srv.cfg.IdleTimeout - time.Since(c.idleSince); rest > 0 {
		c.idle.set(rest)
		return
	}
	c.leave()
}
