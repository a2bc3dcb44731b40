// Package cni is the conversation between the small CNI plugin binary and the node agent:
// one request frame, one answer frame, on a unix socket. It imports next to nothing, so
// that the plugin starts in a millisecond. Used by cmd/proa-cni and network.
package cni

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxFrame bounds a frame in bytes: configurations and results are a few kilobytes.
const MaxFrame = 1 << 20

// ErrFrame is a frame that is too long or malformed.
var ErrFrame = errors.New("malformed CNI frame")

// Request is what the runtime gave the plugin.
type Request struct {
	Env   []string // CNI_* of the environment, "KEY=value"
	Stdin []byte
}

// WriteRequest sends a request.
func WriteRequest(w io.Writer, r Request) error {
	b := make([]byte, 4, 512+len(r.Stdin))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Env)))
	for _, e := range r.Env {
		b = binary.BigEndian.AppendUint32(b, uint32(len(e)))
		b = append(b, e...)
	}
	b = append(b, r.Stdin...)
	return send(w, b)
}

// ReadRequest receives a request. ErrFrame.
func ReadRequest(r io.Reader) (Request, error) {
	b, err := receive(r)
	if err != nil {
		return Request{}, err
	}
	return parseRequest(b)
}

func parseRequest(b []byte) (Request, error) {
	if len(b) < 4 {
		return Request{}, ErrFrame
	}
	var out Request
	n := binary.BigEndian.Uint32(b)
	b = b[4:]
	for range n {
		if len(b) < 4 {
			return Request{}, ErrFrame
		}
		size := binary.BigEndian.Uint32(b)
		if uint64(size) > uint64(len(b)-4) {
			return Request{}, ErrFrame
		}
		out.Env = append(out.Env, string(b[4:4+size]))
		b = b[4+size:]
	}
	out.Stdin = b
	return out, nil
}

// Answer is what the plugin prints and its exit code.
type Answer struct {
	Code   byte
	Stdout []byte
}

// WriteAnswer sends an answer.
func WriteAnswer(w io.Writer, a Answer) error {
	return send(w, append([]byte{0, 0, 0, 0, a.Code}, a.Stdout...))
}

// ReadAnswer receives an answer. ErrFrame.
func ReadAnswer(r io.Reader) (Answer, error) {
	b, err := receive(r)
	if err != nil {
		return Answer{}, err
	}
	if len(b) == 0 {
		return Answer{}, ErrFrame
	}
	return Answer{b[0], b[1:]}, nil
}

// send fills in the length that the first four bytes are kept for.
func send(w io.Writer, b []byte) error {
	if len(b)-4 > MaxFrame {
		return ErrFrame
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func receive(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, ErrFrame
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	return b, nil
}

// Versions answers VERSION.
const Versions = `{"cniVersion":"1.1.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}`
