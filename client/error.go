package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Error is an answer of the API that is not 200 OK. It is comparable, and
// errors.Is takes an Error without a message for any of that status:
//
//	errors.Is(err, client.Error{StatusCode: http.StatusNotFound})
type Error struct {
	StatusCode int
	Message    string        // from the body, at most 200 characters, without the API key
	RetryAfter time.Duration // what the API asks to wait for, 0 if it does not say
}

func (e Error) Error() string {
	if e.Message == "" {
		return "API answered " + strconv.Itoa(e.StatusCode)
	}
	return "API answered " + strconv.Itoa(e.StatusCode) + ": " + e.Message
}

// Is reports whether target is this error, or its status without a message.
func (e Error) Is(target error) bool {
	t, ok := target.(Error)
	return ok && (t == e || t == Error{StatusCode: e.StatusCode})
}

// ErrInvalidResponse is the cause when a 200 OK carries no job, or no list.
var ErrInvalidResponse = errors.New("invalid response")

// ErrNoKey is the cause when there is no API key to send; nothing was sent.
var ErrNoKey = errors.New("no API key")

// failure is an error with the text that may be shown of it.
type failure struct {
	statusCode int // that had arrived before, or 0
	err        error
	text       string
}

// failed is what went wrong after a status had arrived.
func failed(resp *http.Response, err error) error {
	return failure{resp.StatusCode, err, clean(err.Error(), resp)}
}

func (e failure) Error() string { return e.text }
func (e failure) Unwrap() error { return e.err }

// StatusCode returns the HTTP status that came with err (200 for nil), or 0
// where there was none.
func StatusCode(err error) int {
	if err == nil {
		return 200
	}
	if e, ok := errors.AsType[Error](err); ok {
		return e.StatusCode
	}
	if e, ok := errors.AsType[failure](err); ok {
		return e.statusCode
	}
	return 0
}

// Reason names, for people and for labels, why a request failed.
type Reason string

// The reasons. They are values of the label "reason".
const (
	BadRequest      Reason = "bad_request"
	Unauthorized    Reason = "unauthorized"
	PaymentRequired Reason = "payment_required"
	Forbidden       Reason = "forbidden"
	NotFound        Reason = "not_found"
	Unprocessable   Reason = "unprocessable"
	RateLimited     Reason = "rate_limited"
	InvalidToken    Reason = "invalid_token"
	ClientClosed    Reason = "client_closed"
	ServerError     Reason = "server_error"
	NotImplemented  Reason = "not_implemented"
	Unavailable     Reason = "unavailable"
	GatewayTimeout  Reason = "gateway_timeout"
	HTTPError       Reason = "http_error"
	Timeout         Reason = "timeout"
	Network         Reason = "network"
	InvalidResponse Reason = "invalid_response"
	NoKey           Reason = "no_key"
)

// reasons of the statuses that the API documents, and of 402, which occurs.
var reasons = map[int]Reason{
	400: BadRequest,
	401: Unauthorized,
	402: PaymentRequired,
	403: Forbidden,
	404: NotFound,
	422: Unprocessable,
	429: RateLimited,
	498: InvalidToken, // a deny-listed token in the content, despite its name
	499: ClientClosed,
	501: NotImplemented,
	503: Unavailable,
	504: GatewayTimeout,
}

// ReasonOf returns why a request failed, "" for nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[Error](err); ok {
		if reason, ok := reasons[e.StatusCode]; ok {
			return reason
		}
		if e.StatusCode >= 500 && e.StatusCode <= 599 {
			return ServerError
		}
		return HTTPError
	}
	e, ofNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, ErrNoKey):
		return NoKey
	case ofNet && e.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return Timeout
	case errors.Is(err, ErrInvalidResponse):
		return InvalidResponse
	}
	return Network
}
