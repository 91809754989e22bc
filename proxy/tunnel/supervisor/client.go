package supervisor

import (
	"errors"
	"fmt"
	"time"
)

// ErrGone says that the Supervisor ended before it had answered: there may be another soon.
var ErrGone = errors.New("the tunnel supervisor has gone")

// Client is a mount helper's side.
type Client struct{ k *conn }

// Dial connects to the Supervisor of a directory.
func Dial(dir string) (*Client, error) {
	k, err := dial(dir)
	if err != nil {
		return nil, err
	}
	return &Client{k: k}, nil
}

// Open has a tunnel made and gives its port on 127.0.0.1 when it serves. It is kept for as long as the Client is
// not closed, and after that for a mount of that port.
func (c *Client) Open(s State) (int, error) {
	answer, err := c.ask(message{Open: &s}, startTimeout+writeTimeout)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", ErrGone, err)
	case answer.Error != "":
		return 0, errors.New(answer.Error)
	case answer.NetNS != NetNS():
		return 0, errors.New("the tunnel supervisor runs in another network namespace; mount from its, or end it first")
	}
	return answer.Port, nil
}

// Mounted says that the mount stands.
func (c *Client) Mounted() error { return c.k.send(message{Mounted: true}) }

// Cancel has the tunnel ended and returns when it has gone.
func (c *Client) Cancel() error {
	_, err := c.ask(message{Cancel: true}, 2*stopTimeout)
	return err
}

// Close leaves the Supervisor.
func (c *Client) Close() error { return c.k.c.Close() }

func (c *Client) ask(m message, timeout time.Duration) (message, error) {
	if err := c.k.send(m); err != nil {
		return m, err
	}
	c.k.c.SetReadDeadline(time.Now().Add(timeout))
	answer, err := c.k.receive()
	if err != nil {
		return m, err
	}
	return answer, nil
}
