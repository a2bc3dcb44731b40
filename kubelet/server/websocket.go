package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	client "k8s.io/client-go/tools/remotecommand"
	clientspdy "k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

const (
	// streamIdle cuts a WebSocket over which nothing went for so long.
	streamIdle = 4 * time.Hour
	// streamPing keeps what lies between us and the runtime from closing a quiet stream.
	streamPing = 5 * time.Second
	// goodbye bounds the time in which a client takes the last word of a stream.
	goodbye = 10 * time.Second
)

// wants tells which streams an exec or attach has.
type wants struct{ in, out, errs, tty bool }

// translate serves a client that speaks version 5 of the channel protocol, which runtimes do
// not: the streams go on to the runtime over SPDY.
func (s *Server) translate(w http.ResponseWriter, r *http.Request, where string, has wants) {
	to, err := url.Parse(where)
	if err != nil {
		http.Error(w, "the runtime answered no usable stream address", http.StatusInternalServerError)
		return
	}
	channels := []wsstream.ChannelType{
		remotecommand.StreamStdIn:  ifAny(has.in, wsstream.ReadChannel),
		remotecommand.StreamStdOut: ifAny(has.out, wsstream.WriteChannel),
		remotecommand.StreamStdErr: ifAny(has.errs, wsstream.WriteChannel),
		remotecommand.StreamErr:    wsstream.WriteChannel,
		remotecommand.StreamResize: wsstream.ReadChannel,
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{remotecommand.StreamProtocolV5Name: {Binary: true, Channels: channels}})
	conn.SetIdleTimeout(streamIdle)
	_, parts, err := conn.Open(w, r)
	if err != nil {
		s.log.Debug("WebSocket not opened", "path", r.URL.Path, "error", err)
		return
	}
	defer conn.Close()
	if _, err := parts[firstOut(has)].Write(nil); err != nil { // tells the client that it is connected
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	err = pass(ctx, to, has, parts)
	conn.SetWriteDeadline(goodbye)
	if err := json.NewEncoder(parts[remotecommand.StreamErr]).Encode(outcome(err)); err != nil {
		s.log.Debug("the end of a stream was not delivered", "path", r.URL.Path, "error", err)
	}
}

func ifAny(wanted bool, t wsstream.ChannelType) wsstream.ChannelType {
	if wanted {
		return t
	}
	return wsstream.IgnoreChannel
}

// firstOut is the lowest channel that is written to.
func firstOut(has wants) int {
	switch {
	case has.out:
		return remotecommand.StreamStdOut
	case has.errs:
		return remotecommand.StreamStdErr
	}
	return remotecommand.StreamErr
}

// pass connects the channels with the runtime until the command or the client ends.
func pass(ctx context.Context, to *url.URL, has wants, parts []io.ReadWriteCloser) error {
	tripper, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{PingPeriod: streamPing, UpgradeTransport: &http.Transport{}})
	if err != nil {
		return err
	}
	executor, err := client.NewSPDYExecutorRejectRedirects(tripper, clientspdy.NewUpgraderForStreaming(tripper), http.MethodPost, to)
	if err != nil {
		return err
	}
	opts := client.StreamOptions{Tty: has.tty}
	if has.in {
		opts.Stdin = parts[remotecommand.StreamStdIn]
	}
	if has.out {
		opts.Stdout = parts[remotecommand.StreamStdOut]
	}
	if has.errs {
		opts.Stderr = parts[remotecommand.StreamStdErr]
	}
	if has.tty {
		sizes := make(chan client.TerminalSize)
		opts.TerminalSizeQueue = sizeQueue(sizes)
		go readSizes(ctx, parts[remotecommand.StreamResize], sizes) // ends with the connection
	}
	return executor.StreamWithContext(ctx, opts)
}

type sizeQueue <-chan client.TerminalSize

func (q sizeQueue) Next() *client.TerminalSize {
	if size, ok := <-q; ok {
		return &size
	}
	return nil
}

func readSizes(ctx context.Context, from io.Reader, to chan<- client.TerminalSize) {
	defer close(to)
	decoder := json.NewDecoder(from)
	for {
		var size client.TerminalSize
		if decoder.Decode(&size) != nil {
			return
		}
		select {
		case to <- size:
		case <-ctx.Done():
			return
		}
	}
}

// outcome is the last word on the error channel.
func outcome(err error) metav1.Status {
	if err == nil {
		return metav1.Status{Status: metav1.StatusSuccess}
	}
	var status *apierrors.StatusError
	if errors.As(err, &status) {
		return status.ErrStatus
	}
	var exit exec.CodeExitError
	if errors.As(err, &exit) && exit.Exited() {
		return metav1.Status{Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", exit),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: fmt.Sprint(exit.ExitStatus())}}}}
	}
	return apierrors.NewInternalError(err).ErrStatus
}

// speaksV5 tells whether the client wants version 5 of the channel protocol and nothing older.
func speaksV5(r *http.Request) bool {
	return wsstream.IsWebSocketRequestWithStreamCloseProtocol(r)
}

// logSocket makes a log's reader write to a WebSocket; the end of the log closes it.
func (s *Server) logSocket(w http.ResponseWriter, r *http.Request, read func(ctx context.Context, out io.Writer) error) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	from, to := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = to.CloseWithError(read(ctx, to)) // never fails
	}()
	socket := wsstream.NewReader(from, true, wsstream.NewDefaultReaderProtocols())
	socket.SetIdleTimeout(streamIdle)
	if err := socket.Copy(w, r); err != nil {
		s.log.Debug("log not delivered", "path", r.URL.Path, "error", err)
	}
	cancel()
	_ = from.Close() // never fails
	<-done
}
