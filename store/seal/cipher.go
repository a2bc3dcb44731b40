package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"

	"golang.org/x/crypto/nacl/secretbox"
)

var errShort = errors.New("the value is too short to be sealed")

// keyed is a provider with one key of its own.
type keyed struct {
	start string // the prefix
	box   box
}

// box is a cipher with its key.
type box interface {
	seal(plain, authenticated []byte) ([]byte, error)
	open(body, authenticated []byte) ([]byte, error)
}

func (k *keyed) prefix() string { return k.start }

// The key in etcd is authenticated with the value: moved elsewhere it does not open.
func (k *keyed) seal(key string, plain []byte) ([]byte, error) { return k.box.seal(plain, []byte(key)) }

func (k *keyed) open(key string, body []byte) ([]byte, bool, error) {
	plain, err := k.box.open(body, []byte(key))
	return plain, false, err
}

// gcm is AES-GCM with a random nonce of 12 bytes before the sealed text.
type gcm struct{ aead cipher.AEAD }

func newGCM(secret []byte) (box, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return gcm{aead}, nil
}

func (g gcm) seal(plain, authenticated []byte) ([]byte, error) {
	n := g.aead.NonceSize()
	out := make([]byte, n, n+len(plain)+g.aead.Overhead())
	if _, err := rand.Read(out); err != nil {
		return nil, err
	}
	return g.aead.Seal(out, out, plain, authenticated), nil
}

func (g gcm) open(body, authenticated []byte) ([]byte, error) {
	n := g.aead.NonceSize()
	if len(body) < n {
		return nil, errShort
	}
	plain, err := g.aead.Open(nil, body[:n], body[n:], authenticated)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

// cbc is AES-CBC with PKCS#7 padding, its random vector before the sealed text. It
// authenticates nothing: for those who have values of it.
type cbc struct{ block cipher.Block }

func newCBC(secret []byte) (box, error) {
	block, err := aes.NewCipher(secret)
	return cbc{block}, err
}

func (c cbc) seal(plain, _ []byte) ([]byte, error) {
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	out := make([]byte, aes.BlockSize+len(plain)+pad)
	vector, body := out[:aes.BlockSize], out[aes.BlockSize:]
	if _, err := rand.Read(vector); err != nil {
		return nil, err
	}
	for i := copy(body, plain); i < len(body); i++ {
		body[i] = byte(pad)
	}
	cipher.NewCBCEncrypter(c.block, vector).CryptBlocks(body, body)
	return out, nil
}

func (c cbc) open(body, _ []byte) ([]byte, error) {
	if len(body) < 2*aes.BlockSize || len(body)%aes.BlockSize != 0 {
		return nil, errShort
	}
	plain := make([]byte, len(body)-aes.BlockSize)
	cipher.NewCBCDecrypter(c.block, body[:aes.BlockSize]).CryptBlocks(plain, body[aes.BlockSize:])
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize {
		return nil, ErrOpen
	}
	for _, b := range plain[len(plain)-pad:] {
		if int(b) != pad {
			return nil, ErrOpen
		}
	}
	return plain[:len(plain)-pad], nil
}

// salsa is NaCl's secretbox, its random nonce of 24 bytes before the sealed text.
type salsa struct{ key [32]byte }

func newSecretbox(secret []byte) (box, error) {
	if len(secret) != 32 {
		return nil, errors.New("the key of a secretbox has 32 bytes")
	}
	return &salsa{[32]byte(secret)}, nil
}

func (s *salsa) seal(plain, _ []byte) ([]byte, error) {
	var nonce [24]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	return secretbox.Seal(nonce[:], plain, &nonce, &s.key), nil
}

func (s *salsa) open(body, _ []byte) ([]byte, error) {
	if len(body) < 24+secretbox.Overhead {
		return nil, errShort
	}
	nonce := [24]byte(body[:24])
	plain, ok := secretbox.Open(nil, body[24:], &nonce, &s.key)
	if !ok {
		return nil, ErrOpen
	}
	return plain, nil
}
