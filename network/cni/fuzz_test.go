package cni

import (
	"bytes"
	"testing"
)

func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0})
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = ReadAnswer(bytes.NewReader(data))
		_, _ = ReadRequest(bytes.NewReader(data))
	})
}
