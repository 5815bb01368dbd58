"""What the module django_settings_check consists of."""
