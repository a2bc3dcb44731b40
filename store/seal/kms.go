package seal

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kmsapi "k8s.io/kms/apis/v2"
)

// Times of a key service, as upstream has them.
const (
	kmsTimeout  = 3 * time.Second  // of one call, unless configured
	kmsHealthy  = time.Minute      // between two looks at a service that answers
	kmsFailing  = 10 * time.Second // and at one that does not
	kmsGood     = 3 * time.Minute  // how long after its last good answer values are still sealed
	kmsStart    = 30 * time.Second // how long a start waits for it
	kmsAgain    = time.Second      // between two tries then
	kmsMaxSeeds = 10_000           // seeds kept of what was opened
)

// kms seals with a service that keeps the keys (KMS v2, gRPC over a unix socket). The service
// seals one seed; each value is sealed with a key that is derived from it.
type kms struct {
	name    string
	timeout time.Duration
	client  kmsapi.KeyManagementServiceClient
	now     func() time.Time

	mu    sync.Mutex
	write *seed
	seeds map[string][]byte // by envelope.id
}

// seed is what new values are sealed with.
type seed struct {
	envelope
	plain []byte
	until time.Time
}

func newKMS(c *kmsConfig) (*kms, error) {
	conn, err := grpc.NewClient(c.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("key service %q: %w", c.Name, err)
	}
	k := &kms{
		name: c.Name, timeout: kmsTimeout, client: kmsapi.NewKeyManagementServiceClient(conn),
		now: time.Now, seeds: map[string][]byte{},
	}
	if c.Timeout != nil {
		k.timeout = c.Timeout.Duration
	}
	return k, nil
}

func (k *kms) prefix() string { return "k8s:enc:kms:v2:" + k.name + ":" }

func (k *kms) seal(key string, plain []byte) ([]byte, error) {
	s, err := k.seed()
	if err != nil {
		return nil, err
	}
	info := make([]byte, 32)
	if _, err := rand.Read(info); err != nil {
		return nil, err
	}
	box, err := derived(s.plain, info)
	if err != nil {
		return nil, err
	}
	body, err := box.seal(plain, []byte(key))
	if err != nil {
		return nil, err
	}
	e := s.envelope
	e.data = append(info, body...)
	return e.encode(), nil
}

// seed gives what writes, asking the service for the first.
func (k *kms) seed() (*seed, error) {
	k.mu.Lock()
	s := k.write
	k.mu.Unlock()
	if s == nil {
		if _, err := k.refresh(context.Background()); err != nil {
			return nil, err
		}
		k.mu.Lock()
		s = k.write
		k.mu.Unlock()
	}
	if k.now().After(s.until) {
		return nil, fmt.Errorf("the key service does not answer any more; what it sealed the seed with was good until %s", s.until.Format(time.RFC3339))
	}
	return s, nil
}

func derived(seed, info []byte) (box, error) {
	key, err := hkdf.Expand(sha256.New, seed, string(info), 32)
	if err != nil {
		return nil, err
	}
	return newGCM(key)
}

func (k *kms) open(key string, body []byte) ([]byte, bool, error) {
	e, err := decodeEnvelope(body)
	if err != nil {
		return nil, false, err
	}
	secret, err := k.unsealed(&e)
	if err != nil {
		return nil, false, err
	}
	var b box
	data := e.data
	if e.source == sourceSeed {
		if len(data) < 32 {
			return nil, false, errShort
		}
		b, err = derived(secret, data[:32])
		data = data[32:]
	} else {
		b, err = newGCM(secret)
	}
	if err != nil {
		return nil, false, err
	}
	plain, err := b.open(data, []byte(key))
	if err != nil {
		return nil, false, err
	}
	// A service that is away does not stand in the way of reading what is known.
	now, err := k.seed()
	return plain, err == nil && (now.keyID != e.keyID || e.source != sourceSeed), nil
}

// unsealed gives the seed or key of an envelope, as the service opens it.
func (k *kms) unsealed(e *envelope) ([]byte, error) {
	id := e.id()
	k.mu.Lock()
	known, ok := k.seeds[id]
	k.mu.Unlock()
	if ok {
		return known, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.timeout)
	defer cancel()
	answer, err := k.client.Decrypt(ctx, &kmsapi.DecryptRequest{
		Ciphertext: e.sealed, Uid: uuid.NewString(), KeyId: e.keyID, Annotations: e.annotations,
	}, grpc.WaitForReady(true))
	if err != nil {
		return nil, fmt.Errorf("ask key service %q: %w", k.name, err)
	}
	k.remember(id, answer.GetPlaintext())
	return answer.GetPlaintext(), nil
}

func (k *kms) remember(id string, secret []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.seeds) >= kmsMaxSeeds {
		clear(k.seeds)
	}
	k.seeds[id] = slices.Clone(secret)
}

// refresh asks how the service is, and for a seed of its present key if that is another
// than before.
func (k *kms) refresh(ctx context.Context) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	status, err := k.client.Status(ctx, &kmsapi.StatusRequest{}, grpc.WaitForReady(true))
	switch {
	case err != nil:
		return false, fmt.Errorf("ask key service %q: %w", k.name, err)
	case status.GetHealthz() != "ok":
		return false, fmt.Errorf("key service %q is not well: %s", k.name, status.GetHealthz())
	case status.GetVersion() != "v2" && status.GetVersion() != "v2beta1":
		return false, fmt.Errorf("key service %q speaks version %q: must be v2", k.name, status.GetVersion())
	case status.GetKeyId() == "":
		return false, fmt.Errorf("key service %q names no key", k.name)
	}
	until := k.now().Add(kmsGood)
	k.mu.Lock()
	old := k.write
	if old != nil && old.keyID == status.GetKeyId() {
		k.write = &seed{envelope: old.envelope, plain: old.plain, until: until}
		k.mu.Unlock()
		return false, nil
	}
	k.mu.Unlock()
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return false, err
	}
	answer, err := k.client.Encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: secret, Uid: uuid.NewString()})
	if err != nil {
		return false, fmt.Errorf("have key service %q seal a seed: %w", k.name, err)
	}
	s := &seed{plain: secret, until: until, envelope: envelope{
		keyID: answer.GetKeyId(), sealed: answer.GetCiphertext(), annotations: answer.GetAnnotations(), source: sourceSeed,
	}}
	if err := s.check(); err != nil {
		return false, fmt.Errorf("key service %q: %w", k.name, err)
	}
	k.remember(s.id(), secret)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.write = s
	return old != nil, nil
}

// ready waits for the first good answer.
func (k *kms) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, kmsStart)
	defer cancel()
	for {
		_, err := k.refresh(ctx)
		if err == nil {
			return nil
		}
		pause := time.NewTimer(kmsAgain)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

// run looks after the service until ctx ends.
func (k *kms) run(ctx context.Context, changed func()) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		other, err := k.refresh(ctx)
		if other {
			changed()
		}
		if err != nil {
			pause.Reset(kmsFailing)
		} else {
			pause.Reset(kmsHealthy)
		}
	}
}

var errEnvelope = errors.New("the value is not what a key service's are")
