package apiserver

import (
	"context"
	"net/http"
	"time"
)

// goodbye is the part of the request timeout in which a client takes its last answer.
const goodbye = 10

// within cuts what waits for the client, a body that does not come or an answer that is not
// taken, some time after ctx ended: a slow client must not keep a place among the requests
// that run. The function that it returns must be called before the handler ends.
func (r *request) within(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	end := context.AfterFunc(ctx, func() {
		defer close(done)
		r.cut()
	})
	return func() {
		if !end() {
			<-done
		}
	}
}

// cut ends reads now and writes soon. A transport that has no deadlines has no slow clients either.
func (r *request) cut() {
	c, now := http.NewResponseController(&r.sent), time.Now()
	_ = c.SetReadDeadline(now)
	_ = c.SetWriteDeadline(now.Add(r.s.cfg.RequestTimeout / goodbye))
}

// closeStrangers has connections over HTTP/2 closed of whom nobody knows, so that resetting
// streams or opening many costs them a handshake each.
func (r *request) closeStrangers() {
	if r.r.ProtoMajor == 2 {
		r.w.Header().Set("Connection", "close")
	}
}
