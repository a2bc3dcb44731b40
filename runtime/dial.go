package runtime

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxMessage bounds one CRI message, as upstream's kubelet does: 16 MiB.
const maxMessage = 16 << 20

// Dial returns a connection to a CRI endpoint: "unix:///path" or an absolute path. Nothing
// is sent yet; a connection that breaks is made again, within 50 ms, by the next call
// (calls that set grpc.WaitForReady wait for it).
func Dial(endpoint string) (*grpc.ClientConn, error) {
	target := endpoint
	if strings.HasPrefix(endpoint, "/") {
		target = "unix://" + endpoint
	}
	if !strings.HasPrefix(target, "unix:///") {
		return nil, fmt.Errorf("container runtime endpoint %q: must be unix:///path/to/socket", endpoint)
	}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 2 * time.Millisecond, Multiplier: 1.3, Jitter: 0.1, MaxDelay: 50 * time.Millisecond},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("dial container runtime %s: %w", endpoint, err)
	}
	return conn, nil
}

// retryEvery is how often a runtime that listens but is still loading is asked again.
const retryEvery = 5 * time.Millisecond

// Answers waits until the CRI endpoint answers, and returns its version; ctx bounds it.
func Answers(ctx context.Context, conn *grpc.ClientConn) (*runtimeapi.VersionResponse, error) {
	cri := runtimeapi.NewRuntimeServiceClient(conn)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the container runtime: %w", context.Cause(ctx))
		case <-timer.C:
		}
		version, err := cri.Version(ctx, &runtimeapi.VersionRequest{}, grpc.WaitForReady(true))
		if err == nil {
			return version, nil
		}
		timer.Reset(retryEvery)
	}
}
