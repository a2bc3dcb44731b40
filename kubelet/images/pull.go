package images

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type pulled struct {
	ref          string
	size         uint64
	took, waited time.Duration
}

// pull tries each credential that fits, then none, and joins a pull that is under way.
func (m *Manager) pull(ctx context.Context, pod *corev1.Pod, image string, sandbox *runtimeapi.PodSandboxConfig) (pulled, error) {
	begin := m.cfg.Clock.Now()
	auths := m.credentials(ctx, pod, image)
	if len(auths) == 0 {
		auths = []*runtimeapi.AuthConfig{nil}
	}
	var errs []error
	for _, auth := range auths {
		key := image
		if auth != nil { // who has no right to an image does not get it from another's pull
			key += "\x00" + auth.Username + "\x00" + auth.Password + "\x00" + auth.Auth + "\x00" + auth.IdentityToken
		}
		for {
			v, err, shared := m.pulls.Do(key, func() (any, error) { return m.pullOnce(ctx, image, auth, sandbox) })
			if err == nil {
				got := v.(pulled)
				got.waited = m.cfg.Clock.Since(begin)
				return got, nil
			}
			if ctx.Err() != nil {
				return pulled{}, ctx.Err()
			}
			if shared && errors.Is(err, errGivenUp) { // its pod went away, ours did not
				continue
			}
			errs = append(errs, err)
			break
		}
	}
	return pulled{}, errors.Join(errs...)
}

var errGivenUp = errors.New("pull given up")

func (m *Manager) pullOnce(ctx context.Context, image string, auth *runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (pulled, error) {
	if m.slots != nil {
		select {
		case m.slots <- struct{}{}:
			defer func() { <-m.slots }()
		case <-ctx.Done():
			return pulled{}, errGivenUp
		}
	}
	begin := m.cfg.Clock.Now()
	spec := &runtimeapi.ImageSpec{Image: image}
	got, err := m.cfg.Images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: spec, Auth: auth, SandboxConfig: sandbox})
	if err != nil {
		if ctx.Err() != nil {
			return pulled{}, errGivenUp
		}
		return pulled{}, plain(err)
	}
	out := pulled{ref: got.ImageRef, took: m.cfg.Clock.Since(begin)}
	if st, err := m.cfg.Images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: got.ImageRef}}); err == nil {
		out.size = st.GetImage().GetSize()
	}
	return out, nil
}

// plain keeps the runtime's words and code, as kubectl users know them.
func plain(err error) error {
	if s, ok := status.FromError(err); ok {
		return fmt.Errorf("rpc error: code = %s desc = %s", s.Code(), s.Message())
	}
	return err
}

type dockerConfig struct {
	Auths map[string]dockerAuth `json:"auths"`
}

type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
}

// credentials gathers from the pod's pull secrets what fits the image, the most specific first.
func (m *Manager) credentials(ctx context.Context, pod *corev1.Pod, image string) []*runtimeapi.AuthConfig {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil || m.cfg.Secret == nil {
		return nil
	}
	type match struct {
		pattern string
		auth    *runtimeapi.AuthConfig
	}
	var found []match
	var missing []string
	for _, s := range pod.Spec.ImagePullSecrets {
		if s.Name == "" {
			continue
		}
		secret, err := m.cfg.Secret(ctx, pod.Namespace, s.Name)
		if err != nil {
			missing = append(missing, s.Name)
			continue
		}
		config, err := parseConfig(secret)
		if err != nil {
			m.cfg.Log.Warn("read pull secret", "secret", pod.Namespace+"/"+s.Name, "err", err)
			continue
		}
		for pattern, a := range config.Auths {
			if matches(pattern, named.Name()) {
				found = append(found, match{trimRegistry(pattern), a.config(pattern)})
			}
		}
	}
	if len(missing) > 0 && m.cfg.Recorder != nil {
		m.cfg.Recorder.Eventf(pod, corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
			"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(missing, ", "))
	}
	slices.SortStableFunc(found, func(a, b match) int { return len(b.pattern) - len(a.pattern) })
	out := make([]*runtimeapi.AuthConfig, 0, len(found))
	for _, f := range found {
		out = append(out, f.auth)
	}
	return out
}

func parseConfig(s *corev1.Secret) (dockerConfig, error) {
	var c dockerConfig
	if data, ok := s.Data[corev1.DockerConfigJsonKey]; ok {
		if err := json.Unmarshal(data, &c); err != nil {
			return c, errors.New("not a docker config") // json's error could quote the secret
		}
		return c, nil
	}
	if data, ok := s.Data[corev1.DockerConfigKey]; ok {
		if err := json.Unmarshal(data, &c.Auths); err != nil {
			return c, errors.New("not a docker config")
		}
	}
	return c, nil
}

func (a dockerAuth) config(server string) *runtimeapi.AuthConfig {
	out := &runtimeapi.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, ServerAddress: trimRegistry(server)}
	if out.Username == "" && a.Auth != "" {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(a.Auth))
		if err == nil {
			out.Username, out.Password, _ = strings.Cut(strings.TrimRight(string(raw), "\x00"), ":")
		}
	}
	return out
}

func trimRegistry(pattern string) string {
	pattern = strings.TrimPrefix(strings.TrimPrefix(pattern, "https://"), "http://")
	pattern = strings.TrimSuffix(pattern, "/")
	pattern = strings.TrimSuffix(strings.TrimSuffix(pattern, "/v1"), "/v2")
	if pattern == "index.docker.io" {
		return "docker.io"
	}
	return pattern
}

// matches tells whether a credential's registry pattern covers the image: host labels may hold
// wildcards, ports must be equal, the path is a prefix of whole elements.
func matches(pattern, image string) bool {
	wantHost, wantPath, _ := strings.Cut(trimRegistry(pattern), "/")
	host, repo, _ := strings.Cut(image, "/")
	wantName, wantPort, _ := strings.Cut(wantHost, ":")
	name, port, _ := strings.Cut(host, ":")
	want, have := strings.Split(wantName, "."), strings.Split(name, ".")
	if wantPort != port || len(want) != len(have) {
		return false
	}
	for i := range want {
		if ok, err := path.Match(want[i], have[i]); err != nil || !ok {
			return false
		}
	}
	return wantPath == "" || repo == wantPath || strings.HasPrefix(repo, wantPath+"/")
}
