package images

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a zstd stream may ask for.
const maxWindow = 128 << 20

// tarMagic is at offset 257 of every tar file that image tools write.
const (
	tarMagic   = "ustar"
	tarMagicAt = 257
)

// decompress returns the tar stream inside r, which may be plain, gzip or zstd.
// ErrNotArchive when it is none of them.
func decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 1<<16)
	head, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("%w (%w)", ErrNotArchive, err)
		}
		return checkTar(z, func() {})
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("%w (%w)", ErrNotArchive, err)
		}
		return checkTar(z, z.Close)
	}
	return checkTar(buffered, func() {})
}

type stream struct {
	io.Reader
	end func()
}

func (s stream) Close() error {
	s.end()
	return nil
}

func checkTar(r io.Reader, end func()) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 1<<16)
	head, err := buffered.Peek(tarMagicAt + len(tarMagic))
	if err != nil || string(head[tarMagicAt:]) != tarMagic {
		end()
		return nil, ErrNotArchive
	}
	return stream{buffered, end}, nil
}
