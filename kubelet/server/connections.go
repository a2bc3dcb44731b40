package server

import (
	"net"
	"sync"
)

// connections bounds how many connections are open and knows them all, so that upgraded
// ones, which http.Server forgets, can be cut too.
type connections struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once

	mu   sync.Mutex
	open map[*connection]bool
}

type connection struct {
	net.Conn
	of   *connections
	once sync.Once
}

func newConnections(l net.Listener, most int) *connections {
	return &connections{Listener: l, slots: make(chan struct{}, most), done: make(chan struct{}), open: map[*connection]bool{}}
}

// Accept waits for a slot, then for a connection.
func (c *connections) Accept() (net.Conn, error) {
	select {
	case c.slots <- struct{}{}:
	case <-c.done:
		return nil, net.ErrClosed
	}
	conn, err := c.Listener.Accept()
	if err != nil {
		<-c.slots
		return nil, err
	}
	out := &connection{Conn: conn, of: c}
	c.mu.Lock()
	c.open[out] = true
	c.mu.Unlock()
	return out, nil
}

// Close stops accepting.
func (c *connections) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Listener.Close()
}

// Close frees the connection's slot.
func (c *connection) Close() error {
	c.once.Do(func() {
		c.of.mu.Lock()
		delete(c.of.open, c)
		c.of.mu.Unlock()
		<-c.of.slots
	})
	return c.Conn.Close()
}

func (c *connections) closeAll() {
	c.mu.Lock()
	all := make([]*connection, 0, len(c.open))
	for conn := range c.open {
		all = append(all, conn)
	}
	c.mu.Unlock()
	for _, conn := range all {
		_ = conn.Close() // it is being given up
	}
}
