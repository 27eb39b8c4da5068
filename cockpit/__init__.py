"""The operator's cockpit: screens, one-shot commands and scripts over the control API of every daemon."""
