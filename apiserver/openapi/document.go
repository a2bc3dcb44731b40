package openapi

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
)

// document is one document in its formats, each built on first need and kept compressed.
type document struct {
	hash     string                              // of what it is made from
	address  string                              // without the hash; empty: has none with a hash
	protobuf string                              // media type of the protobuf form, as answered
	encode   func(protobuf bool) ([]byte, error) // as gzip

	mu         sync.Mutex
	compressed map[string][]byte // by media type, gzip
}

const mediaJSON = "application/json"

func newDocument2(hash string, encode func(protobuf bool) ([]byte, error)) *document {
	return &document{
		hash: hash, encode: encode, protobuf: "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
		compressed: map[string][]byte{},
	}
}

func newDocument3(hash, name string, describe func() ([]byte, error)) *document {
	return &document{
		hash: hash, address: "/openapi/v3/" + name, protobuf: "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
		encode: func(protobuf bool) ([]byte, error) {
			raw, err := describe()
			if err == nil && protobuf {
				raw, err = convert3(raw)
			}
			if err != nil {
				return nil, err
			}
			return compress(raw)
		},
		compressed: map[string][]byte{},
	}
}

// convert3 turns a version 3 document from JSON into protobuf.
func convert3(raw []byte) ([]byte, error) {
	message, err := openapiv3.ParseDocument(raw)
	if err != nil {
		return nil, fmt.Errorf("convert OpenAPI v3 to protobuf: %w", err)
	}
	if raw, err = proto.Marshal(message); err != nil {
		return nil, fmt.Errorf("encode OpenAPI v3 as protobuf: %w", err)
	}
	return raw, nil
}

// withHash is the address under which the document never changes.
func (d *document) withHash() string { return d.address + "?" + url.Values{"hash": {d.hash}}.Encode() }

// choose picks the first entry of an Accept header that the document exists in.
func (d *document) choose(accept string) (string, bool) {
	if strings.TrimSpace(accept) == "" {
		return mediaJSON, true
	}
	older := strings.Replace(d.protobuf, ".v1.0", "@v1.0", 1) // not a media type by RFC 2045, but what clients send
	for entry := range strings.SplitSeq(accept, ",") {
		media, _, _ := strings.Cut(entry, ";")
		switch media = strings.ToLower(strings.TrimSpace(media)); media {
		case mediaJSON, "*/*", "application/*":
			return mediaJSON, true
		case d.protobuf, older:
			return d.protobuf, true
		}
	}
	return "", false
}

func (d *document) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept, Accept-Encoding")
	media, ok := d.choose(r.Header.Get("Accept"))
	if !ok {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	if asked := r.URL.Query().Get("hash"); asked != "" && d.address != "" {
		if asked != d.hash {
			http.Redirect(w, r, d.withHash(), http.StatusMovedPermanently)
			return
		}
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	etag := strconv.Quote(d.hash)
	w.Header().Set("ETag", etag)
	if strings.Contains(r.Header.Get("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body, err := d.bytes(media)
	if err != nil {
		w.Header().Del("ETag")
		w.Header().Del("Cache-Control")
		w.Header().Del("Expires")
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", media)
	write(w, r, body)
}

// write answers a compressed body as it is, or as the client takes it. A failed write
// means that the client has gone.
func write(w http.ResponseWriter, r *http.Request, compressed []byte) {
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", strconv.Itoa(len(compressed)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(compressed)
		}
		return
	}
	if r.Method == http.MethodHead {
		return
	}
	if plain, err := gzip.NewReader(bytes.NewReader(compressed)); err == nil {
		_, _ = io.Copy(w, plain)
	}
}

// bytes gives the document in a format, building it when it is the first to ask.
func (d *document) bytes(media string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if body, ok := d.compressed[media]; ok {
		return body, nil
	}
	body, err := d.encode(media == d.protobuf)
	if err != nil {
		return nil, err
	}
	d.compressed[media] = body
	return body, nil
}

func compress(raw []byte) ([]byte, error) {
	b, err := newBlock(func(w io.Writer) error { _, err := w.Write(raw); return err })
	return gzipped([]block{b}), err
}
