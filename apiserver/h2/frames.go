package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// frameRead does what a frame asks for. An error of a stream resets that stream; any other
// ends the connection.
func (c *conn) frameRead(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.DataFrame:
		return c.dataRead(f)
	case *http2.HeadersFrame:
		return c.headersRead(f)
	case *http2.WindowUpdateFrame:
		return c.windowUpdate(f)
	case *http2.RSTStreamFrame:
		return c.resetRead(f)
	case *http2.PushPromiseFrame: // servers promise
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	// The others ask for nothing that a handler would do.
	if !c.budget.spend(costFrame, time.Now()) {
		return errCalm
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.PingFrame:
		return c.ping(f)
	case *http2.PriorityFrame:
		if f.StreamDep == f.StreamID {
			return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol}
		}
	case *http2.GoAwayFrame:
		// The peer makes no more requests, and closes when it has its answers.
	}
	return nil
}

func (c *conn) ping(f *http2.PingFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frame(http2.FramePing, http2.FlagPingAck, 0, len(f.Data))
	c.pending.b = append(c.pending.b, f.Data[:]...)
	return c.answered()
}

// mostSettings is how many a frame may have.
const mostSettings = 100

func (c *conn) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	if f.NumSettings() > mostSettings {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := f.ForeachSetting(c.setting); err != nil {
		return err
	}
	c.frame(http2.FrameSettings, http2.FlagSettingsAck, 0, 0)
	return c.answered()
}

func (c *conn) setting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingHeaderTableSize:
		c.encoder.SetMaxDynamicTableSize(s.Val) // the encoder has a limit of its own
	case http2.SettingMaxFrameSize:
		c.peerFrame = int(min(s.Val, piece))
	case http2.SettingInitialWindowSize:
		more := int64(s.Val) - c.peerWindow
		c.peerWindow = int64(s.Val)
		for _, st := range c.streams {
			if st.window += more; st.window > maxWindow {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
			st.cond.Broadcast()
		}
	}
	return nil
}

func (c *conn) windowUpdate(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.StreamID == 0 {
		if c.window += int64(f.Increment); c.window > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.wakeWaiting()
		return nil
	}
	st := c.streams[f.StreamID]
	switch {
	case st == nil && c.isIdle(f.StreamID):
		return http2.ConnectionError(http2.ErrCodeProtocol)
	case st == nil: // its answer is complete
		return nil
	case st.window+int64(f.Increment) > maxWindow:
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeFlowControl}
	}
	st.window += int64(f.Increment)
	st.cond.Broadcast()
	return nil
}

// isIdle says of a stream whether it was never opened. Ours would have even numbers, and
// there are none.
func (c *conn) isIdle(id uint32) bool { return id > c.seen || id%2 == 0 }

func (c *conn) resetRead(f *http2.RSTStreamFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isIdle(f.StreamID) {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	cost := costFrame
	if st := c.streams[f.StreamID]; st != nil {
		cost = costReset
		st.end(http2.StreamError{StreamID: f.StreamID, Code: f.ErrCode, Cause: errClientGone})
		c.remember(f.StreamID, false)
	}
	if !c.budget.spend(cost, time.Now()) {
		return errCalm
	}
	return nil
}

func (c *conn) dataRead(f *http2.DataFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := int64(f.Length) // padding counts
	if c.isIdle(f.StreamID) {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if c.granted -= size; c.granted < 0 {
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	data := f.Data()
	if len(data) == 0 && !f.StreamEnded() && !c.budget.spend(costFrame, time.Now()) {
		return errCalm
	}
	st := c.streams[f.StreamID]
	if st == nil || st.ended {
		c.credit += size
		c.grant(nil)
		if _, ours := c.known(f.StreamID); st == nil && ours {
			return nil
		}
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeStreamClosed}
	}
	padding := size - int64(len(data))
	c.credit += padding
	if st.granted -= size; st.granted < 0 {
		c.credit += int64(len(data))
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeFlowControl}
	}
	st.came += int64(len(data))
	if st.length >= 0 && (st.came > st.length || f.StreamEnded() && st.came != st.length) {
		c.credit += int64(len(data))
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol}
	}
	if len(data) > 0 {
		st.arrived(data)
	}
	if st.credit += padding; padding > 0 {
		c.grant(st)
	}
	if f.StreamEnded() {
		st.noMore()
	}
	return nil
}
