package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/proa-dev/proa/store"
	"github.com/proa-dev/proa/store/seal"
)

// Paths of the API about the keys that seal objects, for administrators.
const (
	encryptionPath = "/proa/encryption"
	rotatePath     = encryptionPath + "/rotate"
	keysPath       = encryptionPath + "/keys" // of servers among each other
)

// sealingKeys are the user's, or those that this cluster made itself.
func sealingKeys(cfg *ServerConfig) (*seal.Keys, error) {
	if cfg.EncryptionConfig != "" {
		return seal.Load(cfg.EncryptionConfig)
	}
	return seal.Open(cfg.ownKeys())
}

// serveEncryption tells how objects are kept in etcd, and changes the key.
func (c *controlPlane) serveEncryption(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == encryptionPath && r.Method == http.MethodGet:
	case r.URL.Path == rotatePath && r.Method == http.MethodPost:
		name, err := c.rotateKeys(r.Context())
		if errors.Is(err, seal.ErrOwn) || errors.Is(err, errAllServers) {
			answerJSON(w, http.StatusConflict, failure(http.StatusConflict, metav1.StatusReasonConflict, err))
			return
		}
		if err != nil {
			c.log.Error("change the key that seals objects", "err", err)
			answerJSON(w, http.StatusInternalServerError, failure(http.StatusInternalServerError, metav1.StatusReasonInternalError, err))
			return
		}
		c.log.Info("objects are sealed with a new key", "key", name)
		c.store.Reseal()
	case r.URL.Path == keysPath && r.Method == http.MethodPost:
		if err := c.takeKeys(w, r); err != nil {
			c.log.Error("take the keys of another server", "err", err)
			answerJSON(w, http.StatusForbidden, failure(http.StatusForbidden, metav1.StatusReasonForbidden, err))
			return
		}
	default:
		http.NotFound(w, r)
		return
	}
	answerJSON(w, http.StatusOK, c.store.Sealing())
}

// failure is an error as clients of the API read it.
func failure(code int32, reason metav1.StatusReason, err error) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: code, Reason: reason, Message: err.Error(),
	}
}

func answerJSON(w http.ResponseWriter, code int, content any) {
	raw, err := json.Marshal(content)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(raw) // a client that went away
}

// sealing asks a server how objects are kept in etcd.
func sealing(ctx context.Context, client kubernetes.Interface) ([]store.Sealing, error) {
	raw, err := client.Discovery().RESTClient().Get().AbsPath(encryptionPath).DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	var all []store.Sealing
	return all, json.Unmarshal(raw, &all)
}

// encryption shows what is sealed, and how far that is after a change of keys.
func (r *Report) encryption(ctx context.Context, client kubernetes.Interface) {
	all, err := sealing(ctx, client)
	if err != nil {
		r.wrong("how objects are kept in etcd cannot be asked: %v", err)
		return
	}
	type sum struct {
		names          []string
		objects, stale int
	}
	sums, order := map[string]*sum{}, []string{}
	for _, s := range all {
		if sums[s.With] == nil {
			sums[s.With] = &sum{}
			order = append(order, s.With)
		}
		one := sums[s.With]
		one.names, one.objects, one.stale = append(one.names, s.Resource), one.objects+s.Objects, one.stale+s.Stale
	}
	for _, with := range order {
		one, state := sums[with], "with "+with
		if with == "identity" {
			state = "plain"
		}
		what := strings.Join(one.names, ", ")
		if len(one.names) > 3 {
			what = fmt.Sprintf("%d resources", len(one.names))
		}
		detail := fmt.Sprintf("%s: %d objects", what, one.objects)
		if one.stale > 0 {
			detail += fmt.Sprintf(", %d of them still to be written so", one.stale)
		}
		r.add("encryption", state, "%s", detail)
	}
}

// RotateKey has the server seal with a new key, and waits until all objects are; progress is
// told what is left.
func RotateKey(ctx context.Context, p *Place, progress func([]store.Sealing)) error {
	client, err := adminClient(p)
	if err != nil {
		return err
	}
	if err := client.Discovery().RESTClient().Post().AbsPath(rotatePath).Do(ctx).Error(); err != nil {
		return fmt.Errorf("change the key: %w", err)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		all, err := sealing(ctx, client)
		if err != nil {
			return fmt.Errorf("the key is changed; ask how far the objects are: %w", err)
		}
		progress(all)
		left := 0
		for _, s := range all {
			left += s.Stale
		}
		if left == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
