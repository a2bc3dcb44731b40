package cluster

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"k8s.io/klog/v2"
)

func TestLibrariesLog(t *testing.T) {
	var out bytes.Buffer
	logLibraries(slog.New(slog.NewTextHandler(&out, nil)))
	t.Cleanup(klog.ClearLogger)
	klog.ErrorS(&net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed}, "Error on socket receive")
	klog.ErrorS(errors.New("reset"), "Error on socket receive", "stream", 1)
	klog.Flush()
	text := out.String()
	if strings.Count(text, "\n") != 1 || !strings.Contains(text, "err=reset") || !strings.Contains(text, "part=library") {
		t.Errorf("logged:\n%s", text)
	}
}
