package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	gorilla "github.com/gorilla/websocket"
	"k8s.io/client-go/tools/portforward"
)

// tunnelled is the WebSocket subprotocol that carries SPDY for port-forward inside itself.
const tunnelled = "SPDY/3.1+" + portforward.PortForwardProtocolV1Name

// wantsTunnel tells whether the client asks for SPDY inside a WebSocket.
func wantsTunnel(r *http.Request) bool {
	for _, p := range gorilla.Subprotocols(r) {
		if p == tunnelled {
			return gorilla.IsWebSocketUpgrade(r)
		}
	}
	return false
}

// tunnel carries the client's SPDY between its WebSocket and the runtime.
func (s *Server) tunnel(w http.ResponseWriter, r *http.Request, where string) {
	to, err := url.Parse(where)
	if err != nil || to.Host == "" {
		http.Error(w, "the runtime answered no usable stream address", http.StatusInternalServerError)
		return
	}
	runtime, early, err := upgradeSPDY(r.Context(), to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer runtime.Close()
	// who asks was checked before by its certificate or token: no browser's cookie counts here
	upgrader := gorilla.Upgrader{Subprotocols: []string{tunnelled}, CheckOrigin: func(*http.Request) bool { return true }}
	socket, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		s.log.Debug("WebSocket not opened", "path", r.URL.Path, "error", err)
		return
	}
	conn := portforward.NewTunnelingConnection("server", socket)
	defer conn.Close()
	stop := context.AfterFunc(r.Context(), func() { _ = conn.Close(); _ = runtime.Close() })
	defer stop()
	done := make(chan struct{}, 2)
	for _, pair := range []struct {
		to   io.Writer
		from io.Reader
	}{{runtime, conn}, {conn, early}} {
		go func() {
			_, err := io.Copy(pair.to, pair.from)
			if err != nil && !errors.Is(err, net.ErrClosed) {
				s.log.Debug("port-forward ended", "path", r.URL.Path, "error", err)
			}
			done <- struct{}{}
		}()
	}
	<-done
	_, _ = conn.Close(), runtime.Close() // ends the other direction
	<-done
}

// upgradeSPDY opens a connection to the runtime's stream server that speaks SPDY from here on;
// what it has sent already is read from the reader first.
func upgradeSPDY(ctx context.Context, to *url.URL) (net.Conn, io.Reader, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", to.Host)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the runtime: %w", err)
	}
	req := &http.Request{Method: http.MethodPost, URL: to, Host: to.Host, Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"},
		"X-Stream-Protocol-Version": {portforward.PortForwardProtocolV1Name}}}
	if err := req.Write(conn); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ask the runtime: %w", err), conn.Close())
	}
	from := bufio.NewReader(conn)
	res, err := http.ReadResponse(from, req)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ask the runtime: %w", err), conn.Close())
	}
	if res.StatusCode != http.StatusSwitchingProtocols || !strings.EqualFold(res.Header.Get("Upgrade"), "SPDY/3.1") {
		return nil, nil, errors.Join(fmt.Errorf("the runtime refused: %s", res.Status), conn.Close())
	}
	return conn, from, nil
}
