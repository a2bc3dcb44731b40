package nodeproxy

import (
	"errors"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// maxText bounds what is read of an error's text.
const maxText = 50000

// texts turns the plain text of a kubelet's error into the Status that clients understand.
type texts struct {
	next http.RoundTripper
	req  Request
}

// RoundTrip returns an error of the API for an answer that is none of success.
func (t texts) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.next.RoundTrip(r)
	if err != nil || answer.StatusCode < http.StatusBadRequest {
		return answer, err
	}
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxText))
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return nil, err
	}
	text := strings.TrimSpace(string(raw))
	switch answer.StatusCode {
	case http.StatusBadRequest:
		return nil, apierrors.NewBadRequest(text)
	case http.StatusInternalServerError:
		return nil, apierrors.NewInternalError(errors.New(text))
	}
	return nil, apierrors.NewGenericServerResponse(answer.StatusCode, r.Method, t.req.Kind.GroupResource(), t.req.Name, text, 0, true)
}

// WrappedRoundTripper lets upgrades (logs over WebSocket) be dialled as the transport beneath would.
func (t texts) WrappedRoundTripper() http.RoundTripper { return t.next }
