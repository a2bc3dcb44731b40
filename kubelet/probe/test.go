package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	maxBody   = 10 << 10 // bytes of an answer that are read
	maxOutput = 10 << 10
	redirects = 10
)

// Handlers make tries against real containers.
type Handlers struct {
	Runtime runtimeapi.RuntimeServiceClient
	Agent   string // User-Agent; default "kube-probe/1.37"
}

var _ Tester = (*Handlers)(nil)

// Test makes one try within ctx.
func (h *Handlers) Test(ctx context.Context, t *Target, p *corev1.Probe) (Result, string) {
	switch {
	case p.Exec != nil:
		return h.exec(ctx, t, p)
	case p.HTTPGet != nil:
		return h.http(ctx, t, p.HTTPGet)
	case p.TCPSocket != nil:
		return h.tcp(ctx, t, p.TCPSocket)
	case p.GRPC != nil:
		return h.grpc(ctx, t, p.GRPC, p)
	}
	return Errored, fmt.Sprintf("missing probe handler for %s:%s", t.Pod.Name, t.Container.Name)
}

func (h *Handlers) exec(ctx context.Context, t *Target, p *corev1.Probe) (Result, string) {
	limit := timeout(p)
	got, err := h.Runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: t.ContainerID, Cmd: p.Exec.Command, Timeout: int64(limit.Seconds())})
	if status.Code(err) == codes.DeadlineExceeded || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return Failure, fmt.Sprintf("command timed out: %q timed out after %s", strings.Join(p.Exec.Command, " "), limit)
	}
	if err != nil {
		return Errored, err.Error()
	}
	out := string(got.Stdout) + string(got.Stderr)
	out = out[:min(len(out), maxOutput)]
	if got.ExitCode != 0 {
		return Failure, out
	}
	return Success, out
}

// Port resolves a port by number or by the container's name for it.
func Port(p intstr.IntOrString, c *corev1.Container) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		for _, have := range c.Ports {
			if have.Name == p.StrVal {
				n = int(have.ContainerPort)
			}
		}
		if n == 0 {
			if v, err := strconv.Atoi(p.StrVal); err == nil {
				n = v
			} else {
				return 0, fmt.Errorf("couldn't find port: %s in container ports", p.StrVal)
			}
		}
	}
	if n <= 0 || n > 65535 {
		return 0, fmt.Errorf("invalid port number: %d", n)
	}
	return n, nil
}

// Request makes the request of an HTTP probe or lifecycle hook.
func Request(ctx context.Context, get *corev1.HTTPGetAction, c *corev1.Container, podIP, agent string) (*http.Request, error) {
	port, err := Port(get.Port, c)
	if err != nil {
		return nil, err
	}
	host := get.Host
	if host == "" {
		host = podIP
	}
	u, err := url.Parse(get.Path)
	if err != nil {
		u = &url.URL{Path: get.Path}
	}
	u.Scheme = strings.ToLower(string(get.Scheme))
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	u.Host = net.JoinHostPort(host, strconv.Itoa(port))
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Accept", "*/*")
	for _, kv := range get.HTTPHeaders {
		switch http.CanonicalHeaderKey(kv.Name) {
		case "Host":
			req.Host = kv.Value
		case "Accept", "User-Agent":
			if kv.Value == "" {
				req.Header.Del(kv.Name)
			} else {
				req.Header.Set(kv.Name, kv.Value)
			}
		default:
			req.Header.Add(kv.Name, kv.Value)
		}
	}
	return req, nil
}

// Client for containers: certificates are not checked, as upstream; no connection is kept.
func Client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a probe asks whether it answers, not who it is
			DisableKeepAlives: true, DisableCompression: true, Proxy: nil,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse
			}
			if len(via) >= redirects {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
}

func (h *Handlers) http(ctx context.Context, t *Target, get *corev1.HTTPGetAction) (Result, string) {
	req, err := Request(ctx, get, t.Container, t.PodIP, h.agent())
	if err != nil {
		return Errored, err.Error()
	}
	client := Client()
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return Failure, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return Failure, err.Error()
	}
	if res.StatusCode >= 200 && res.StatusCode < 400 {
		if res.StatusCode >= 300 {
			return Warning, "Probe terminated redirects, Response body: " + string(body)
		}
		return Success, string(body)
	}
	return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", res.StatusCode)
}

func (h *Handlers) agent() string {
	if h.Agent == "" {
		return "kube-probe/1.37"
	}
	return h.Agent
}

func (h *Handlers) tcp(ctx context.Context, t *Target, a *corev1.TCPSocketAction) (Result, string) {
	port, err := Port(a.Port, t.Container)
	if err != nil {
		return Errored, err.Error()
	}
	host := a.Host
	if host == "" {
		host = t.PodIP
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return Failure, err.Error()
	}
	_ = conn.Close() // it answered
	return Success, ""
}

func (h *Handlers) grpc(ctx context.Context, t *Target, a *corev1.GRPCAction, p *corev1.Probe) (Result, string) {
	service := ""
	if a.Service != nil {
		service = *a.Service
	}
	addr := net.JoinHostPort(t.PodIP, strconv.Itoa(int(a.Port)))
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent(h.agent()))
	if err != nil {
		return Errored, err.Error()
	}
	defer conn.Close()
	res, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	switch status.Code(err) {
	case codes.OK:
	case codes.Unimplemented:
		return Failure, fmt.Sprintf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", status.Convert(err).Message())
	case codes.DeadlineExceeded, codes.Unavailable:
		return Failure, fmt.Sprintf("timeout: failed to connect service %q within %v: %v", addr, timeout(p), err)
	default:
		return Failure, fmt.Sprintf("error: health rpc probe failed: %v", err)
	}
	if res.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return Failure, fmt.Sprintf("service unhealthy (responded with %q)", res.GetStatus().String())
	}
	return Success, "service healthy"
}
